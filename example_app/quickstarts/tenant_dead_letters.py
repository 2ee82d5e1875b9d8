"""A message that fails is tried again, and then kept by its tenant until it is mended.

Run it with ``python -m example_app.quickstarts.tenant_dead_letters``.
"""

import json
import logging
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import select
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import DeadLetter
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_dead_letters"],
    channels=[DatabaseChannel("invoices")],
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)

#: The printers that are out of paper.
broken: set[str] = set()


class Invoice(db.Model):
    """An invoice that was printed."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


@dataclass(frozen=True)
class PrintInvoice:
    """Print an invoice, in the background."""

    number: int


@asynchronous("invoices")
@delayed_retry(0, max_attempts=2)
@command_handler(endpoint_id="print_invoice")
def print_invoice(
    command: PrintInvoice, tenant: Annotated[str, Header("tenant")]
) -> None:
    """Print it on the printer of the tenant, or fail."""
    db.session.add(Invoice(number=command.number))
    if tenant in broken:
        raise OSError(f"the printer of {tenant} is out of paper")


@query_handler("invoice.list")
def list_invoices() -> list[int]:
    """List what was printed."""
    return list(db.session.scalars(select(Invoice.number).order_by(Invoice.number)))


def main(folder: str) -> None:
    """Run the example on two databases in *folder*."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = {
        "first": f"sqlite:///{folder}/a.db",
        "second": f"sqlite:///{folder}/b.db",
    }
    db.init_app(app)
    ecotone.init_app(app)
    # What fails is told to the log. Here it is meant to.
    logging.getLogger(f"{app.name}.ecotone").setLevel(logging.CRITICAL)
    tenant_a, tenant_b = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}

    def printed(tenant: dict[str, str]) -> Any:
        return query_bus.send_with_routing("invoice.list", metadata=tenant)

    def flask(*arguments: str) -> str:
        # As typed at the terminal: flask ecotone …
        result = app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    run = ("run", "invoices", "--finish-when-no-messages")

    with app.app_context():
        ecotone.setup_database()
        dead_letters = ecotone.get(DeadLetter)

        print("1. The printer of tenant_a has no paper; tenant_b doesn't notice")
        broken.add("tenant_a")
        command_bus.send(PrintInvoice(1), tenant_a)
        command_bus.send(PrintInvoice(7), tenant_b)
        flask(*run)
        assert (printed(tenant_a), printed(tenant_b)) == ([], [7])

        print("2. After two more attempts the message is a dead letter of tenant_a")
        assert dead_letters.count(tenant="tenant_a") == 1
        assert dead_letters.count(tenant="tenant_b") == 0
        (row,) = json.loads(flask("deadletter", "list", "--all-tenants", "--json"))
        print(
            f"   {row['tenant']}: {row['error_message']} ({row['attempts']} attempts)"
        )
        assert (row["tenant"], row["attempts"]) == ("tenant_a", 3)

        print("3. There is paper again: the dead letter goes back to its channel")
        broken.clear()
        flask("deadletter", "replay", str(row["id"]), "--tenant", "tenant_a")
        assert dead_letters.count(tenant="tenant_a") == 0
        assert printed(tenant_a) == []

        print("4. The worker prints it, once")
        flask(*run)
        assert (printed(tenant_a), printed(tenant_b)) == ([1], [7])

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
