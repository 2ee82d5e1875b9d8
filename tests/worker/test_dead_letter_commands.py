"""``flask ecotone deadletter``, on the messages of a shop."""

from __future__ import annotations

import json

from flask_ecotone import event_bus

from .shop import OrderWasPlaced
from .shop import Shop


def command(shop: Shop, *args: str, exit_code: int = 0) -> str:
    runner = shop.app.test_cli_runner()
    result = runner.invoke(args=["ecotone", "deadletter", *args])
    assert result.exit_code == exit_code, result.output
    return result.output


def park(shop: Shop) -> str:
    """Let a message for pack fail for good, and return the id of the dead letter."""
    with shop.app.app_context():
        event_bus.publish(OrderWasPlaced(1), {"user": "ann", "shop": "north"})
    shop.errors["pack"] = ValueError("no box")
    shop.work()
    shop.errors.clear()
    (found,) = json.loads(command(shop, "list", "--json"))
    return str(found["id"])


def test_an_edited_header_leaves_the_others(shop: Shop) -> None:
    """The message keeps its id and type, and what its sender said."""
    number = park(shop)
    command(shop, "edit", number, "--headers", '{"user": "bob", "shop": null}')
    command(shop, "replay", number)
    assert shop.work().failed == 0
    (name, message) = shop.seen[-1]
    assert (name, message.payload) == ("pack", OrderWasPlaced(1))
    assert message.headers["user"] == "bob"
    assert "shop" not in message.headers
    assert shop.seen[0][1].headers.message_id == message.headers.message_id


def test_an_edited_body_is_what_is_handled(shop: Shop) -> None:
    """It is written as ``show`` prints it."""
    number = park(shop)
    assert json.loads(command(shop, "show", number, "--json"))["body"] == '{"number":1}'
    command(shop, "edit", number, "--body", '{"number": 2}')
    command(shop, "replay", number)
    shop.work()
    assert shop.effects() == [("mail", 1), ("pack", 2)]


def test_headers_that_are_no_json_object_change_nothing(shop: Shop) -> None:
    """The command line is refused, with an example."""
    number = park(shop)
    before = command(shop, "show", number)
    assert "can't be read as JSON" in command(
        shop, "edit", number, "--headers", '{"user":', exit_code=2
    )
    assert "is no JSON object" in command(
        shop, "edit", number, "--headers", "[1]", exit_code=2
    )
    assert command(shop, "show", number) == before


def test_without_tenants_no_tenant_is_shown(shop: Shop) -> None:
    """JSON has it all the same, so that scripts find the same keys."""
    number = park(shop)
    assert "tenant" not in command(shop, "show", number)
    assert json.loads(command(shop, "show", number, "--json"))["tenant"] is None


def test_where_nothing_failed_stats_say_so(shop: Shop) -> None:
    """As the list does."""
    assert command(shop, "stats") == "There are no dead letters.\n"
