"""Called when a tenant becomes active, and when it no longer is.

Run it with ``python -m example_app.quickstarts.tenant_hooks``.
"""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import Ecotone
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import on_tenant_activation
from flask_ecotone import on_tenant_deactivation
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.signals import tenant_activated
from flask_ecotone.signals import tenant_deactivated

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_hooks"],
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)
heard: list[str] = []


class Note(db.Model):
    """A line of text."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@dataclass(frozen=True)
class WriteNote:
    """Keep a line of text."""

    text: str


@dataclass(frozen=True)
class WriteNotes:
    """Keep some lines of text."""

    texts: tuple[str, ...]


@command_handler
def write(command: WriteNote) -> None:
    """Store it, unless it says nothing."""
    if not command.text:
        raise ValueError("There is nothing to write.")
    db.session.add(Note(text=command.text))


@command_handler
def write_all(command: WriteNotes, command_bus: CommandBus) -> None:
    """Send a command for each."""
    for text in command.texts:
        command_bus.send(WriteNote(text))


@on_tenant_activation
def activated(
    connection: SQLAlchemyConnectionReference, tenant: Annotated[str, Header("tenant")]
) -> None:
    """Prepare what the tenant needs. An exception would stop the message."""
    heard.append(f"{tenant} on {connection}")


@on_tenant_deactivation
def deactivated(
    connection: SQLAlchemyConnectionReference, tenant: Annotated[str, Header("tenant")]
) -> None:
    """Tidy up. The tenant is active until this returns."""
    heard.append(f"{tenant} off {connection}")


def main(folder: str) -> None:
    """Run the example on two databases in *folder*."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = binds = {
        "first": f"sqlite:///{folder}/a.db",
        "second": f"sqlite:///{folder}/b.db",
    }
    db.init_app(app)
    ecotone.init_app(app)

    with app.app_context():
        for bind in binds:
            db.metadata.create_all(db.engines[bind])

        print("1. A command for each tenant: the hooks stand around it")
        command_bus.send(WriteNote("one"), {"tenant": "tenant_a"})
        command_bus.send(WriteNote("two"), {"tenant": "tenant_b"})
        assert heard == [
            "tenant_a on first",
            "tenant_a off first",
            "tenant_b on second",
            "tenant_b off second",
        ]

        print("2. Commands within a command: the tenant is active already")
        heard.clear()
        command_bus.send(WriteNotes(("three", "four")), {"tenant": "tenant_a"})
        assert heard == ["tenant_a on first", "tenant_a off first"]

        print("3. A command fails: the tenant is let go all the same")
        heard.clear()
        try:
            command_bus.send(WriteNote(""), {"tenant": "tenant_a"})
        except ValueError as error:
            assert str(error) == "There is nothing to write."
        else:
            raise AssertionError("wrote nothing")
        assert heard == ["tenant_a on first", "tenant_a off first"]

        print("4. Signals tell the rest of the application")
        signals: list[tuple[str, str]] = []

        def on(sender: Flask, tenant: str, **rest: Any) -> None:
            signals.append(("on", tenant))

        def off(sender: Flask, tenant: str, **rest: Any) -> None:
            signals.append(("off", tenant))

        with (
            tenant_activated.connected_to(on, sender=app),
            tenant_deactivated.connected_to(off, sender=app),
        ):
            command_bus.send(WriteNote("five"), {"tenant": "tenant_b"})
        assert signals == [("on", "tenant_b"), ("off", "tenant_b")]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
