"""``flask ecotone deadletter``, on the messages of a shop."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from flask_ecotone import event_bus
from flask_ecotone.errors import ConversionError
from flask_ecotone.storage.tables import dead_letters

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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('{"number": "2"}', "its 'number' is str, not int"),
        ('{"number": null}', "its 'number' is None, not int"),
        ("{}", "missing required field `number`"),
        ("[2]", "it is list, not object"),
        ('{"number"', "Input data was truncated"),
        ("", "Input data was truncated"),
    ],
)
def test_a_body_that_does_not_fit_changes_nothing(
    shop: Shop, body: str, said: str
) -> None:
    """The error says what the message is, and what is wrong."""
    number = park(shop)
    before = command(shop, "show", number)
    printed = command(
        shop, "edit", number, "--body", body, "--headers", '{"user": "x"}', exit_code=1
    )
    assert f"dead letter {number}, which is a " in printed
    assert "OrderWasPlaced, isn't changed" in printed
    assert said in printed
    assert "flush" not in printed
    assert "--force" in printed
    assert command(shop, "show", number) == before


def test_a_body_is_taken_by_force(shop: Shop) -> None:
    """What can't be read yet may be for another release."""
    number = park(shop)
    letters = shop.messaging.dead_letters
    with pytest.raises(ConversionError, match="'number' is str"):
        letters.edit(int(number), body=b'{"number": "2"}')
    command(shop, "edit", number, "--force", "--body", '{"number": "2"}')
    assert letters.show(int(number)).body == b'{"number": "2"}'
    letters.edit(int(number), body=b"nothing", force=True)
    command(shop, "replay", number)
    assert shop.work().failed == 1


def test_a_message_of_an_unknown_type_is_edited_by_force(shop: Shop) -> None:
    """Nobody could say what fits; a new type, given with the body, says it."""
    number = park(shop)
    name = f"{OrderWasPlaced.__module__}:OrderWasPlaced"
    command(shop, "edit", number, "--headers", '{"__TypeId__": "nowhere:Gone"}')
    body = ("--body", '{"number": 3}')
    assert "no such class" in command(shop, "edit", number, *body, exit_code=1)
    command(shop, "edit", number, "--force", *body)
    command(shop, "edit", number, "--headers", f'{{"__TypeId__": "{name}"}}', *body)
    command(shop, "replay", number)
    shop.work()
    assert ("pack", 3) in shop.effects()


def test_a_body_for_a_handler_that_is_gone_is_that_of_its_type(shop: Shop) -> None:
    """It is checked all the same."""
    number = park(shop)
    with shop.app.app_context(), shop.db.engine.begin() as connection:
        connection.execute(sa.update(dead_letters).values(endpoint_id="gone"))
    command(shop, "edit", number, "--body", '{"number": 2}')
    command(shop, "edit", number, "--body", '{"number": "2"}', exit_code=1)


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
