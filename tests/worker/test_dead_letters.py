"""Dead letters: found, looked at, mended, put back and deleted."""

from __future__ import annotations

import json
import typing as t
from datetime import datetime
from datetime import timedelta
from datetime import UTC

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import DeadLetter
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import Message
from flask_ecotone.consuming import Limits
from flask_ecotone.errors import MessagingError
from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import messages


class Kitchen:
    """An application whose handlers burn what they are told to."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask("kitchen")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = SQLAlchemy(app)
        #: What burns, and how.
        self.burns: dict[str, type[Exception]] = {}
        self.served: list[Message] = []

        def cook(dish: str, message: Message) -> None:
            if dish in self.burns:
                raise self.burns[dish](f"burnt {dish}")
            self.served.append(message)

        @asynchronous("oven")
        @delayed_retry(0, max_attempts=1)
        @command_handler("bake", endpoint_id="bake")
        def bake(dish: str, message: Message) -> None:
            cook(dish, message)

        @asynchronous("stove")
        @delayed_retry(0, max_attempts=0)
        @command_handler("boil", endpoint_id="boil")
        def boil(minutes: int, message: Message) -> None:
            cook(str(minutes), message)

        @command_handler("again")
        def again(fails: bool, letters: DeadLetter) -> int:
            count = letters.replay_all(endpoint_id="bake")
            count += letters.delete_all(endpoint_id="boil")
            if fails:
                raise ValueError("no time")
            return count

        channels = [DatabaseChannel("oven"), DatabaseChannel("stove")]
        self.ecotone = Ecotone(packages=[], channels=channels)
        self.ecotone.register(bake, boil, again)
        self.ecotone.init_app(app)

    @property
    def letters(self) -> DeadLetter:
        """The gateway, as the application has it."""
        with self.app.app_context():
            return self.ecotone.get(DeadLetter)

    def send(self, key: str, *payloads: t.Any, **headers: t.Any) -> None:
        with self.app.app_context():
            for payload in payloads:
                command_bus.send_with_routing(key, payload, metadata=headers)

    def work(self) -> t.Any:
        """Let a worker empty the channels."""
        messaging = self.app.extensions["ecotone"].messaging
        limits = Limits(finishes_when_empty=True)
        return messaging.worker(["oven", "stove"], limits=limits).run()

    def fail(self) -> None:
        """Make three dead letters: two of ``bake`` and one of ``boil``."""
        self.burns = {"pie": ValueError, "cake": KeyError, "7": ValueError}
        self.send("bake", "pie", "cake", user="ann")
        self.send("boil", 7)
        self.work()
        self.burns.clear()

    def execute(self, statement: t.Any) -> None:
        with self.app.app_context(), self.db.engine.begin() as connection:
            connection.execute(statement)

    def __call__(self, *arguments: str, code: int = 0, says: str | None = None) -> str:
        """Run a command of ``flask ecotone deadletter``."""
        runner = self.app.test_cli_runner()
        args = ["ecotone", "deadletter", *arguments]
        result = runner.invoke(args=args, input=says)
        assert result.exit_code == code, result.output
        return result.output

    def found(self, *arguments: str) -> list[str]:
        """Return the payloads of those that are listed, in order."""
        listed = json.loads(self("list", "--json", *arguments))
        return [row["body"] for row in listed]


@pytest.fixture
def kitchen(database_url: str) -> Kitchen:
    """A kitchen on SQLite, PostgreSQL and MariaDB in turn."""
    return Kitchen(database_url)


@pytest.fixture
def burnt(kitchen: Kitchen) -> Kitchen:
    """One with three dead letters."""
    kitchen.fail()
    return kitchen


def test_before_the_first_message_there_are_none(kitchen: Kitchen) -> None:
    """Even before there are tables."""
    assert kitchen.letters.count() == 0
    assert kitchen.letters.list() == []
    assert kitchen.letters.replay_all() == 0
    assert kitchen("list") == "There are no dead letters.\n"


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        (["--channel", "stove"], ["7"]),
        (["--endpoint", "bake"], ["cake", "pie"]),
        (["--error", "ValueError"], ["pie", "7"]),
        (["--type", "builtins:str"], ["cake", "pie"]),
        (["--error", "ValueError", "--endpoint", "bake"], ["pie"]),
        (["--since", "1h"], ["cake", "pie", "7"]),
        (["--since", "0s"], []),
    ],
)
def test_filters_find_them(burnt: Kitchen, filter: list[str], found: t.Any) -> None:
    """The newest failure first; several filters hold at the same time."""
    if "--since" in filter:
        burnt.execute(
            sa.update(dead_letters).values(
                last_failed_at=dead_letters.c.last_failed_at - 1000
            )
        )
    assert burnt.found(*filter) == found


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["stats"],
        ["replay-all"],
        ["replay-all", "--dry-run"],
        ["delete", "--yes"],
        ["purge", "--older-than", "0s"],
    ],
)
def test_a_filter_by_a_name_that_nobody_has_is_refused(
    burnt: Kitchen, command: list[str]
) -> None:
    """With what was probably meant; nothing is done."""
    said = burnt(*command, "--endpoint", "baek", code=1)
    assert "no endpoint 'baek'" in said and "Did you mean 'bake'?" in said
    said = burnt(*command, "--channel", "stoves", code=1)
    assert "no channel 'stoves'" in said and "Did you mean 'stove'?" in said
    assert burnt.letters.count() == 3


def test_dead_letters_of_what_is_gone_from_the_code_are_found(burnt: Kitchen) -> None:
    """By the endpoint and the channel that they had."""
    where = dead_letters.c.endpoint_id == "boil"
    burnt.execute(
        sa.update(dead_letters).where(where).values(endpoint_id="fry", channel="grill")
    )
    assert (
        burnt.found("--endpoint", "fry") == burnt.found("--channel", "grill") == ["7"]
    )
    assert burnt.found("--endpoint", "boil") == []
    assert "Did you mean 'grill'?" in burnt("list", "--channel", "grills", code=1)
    assert burnt("delete", "--endpoint", "fry", "--yes") == "1 deleted.\n"
    assert "no endpoint 'fry'" in burnt("list", "--endpoint", "fry", code=1)


def test_a_page_has_twenty(kitchen: Kitchen) -> None:
    """The next ones are on the next page, and the list says that they are there."""
    kitchen.burns = {f"roll {n}": ValueError for n in range(25)}
    kitchen.send("bake", *kitchen.burns)
    kitchen.work()
    first, second = kitchen.found(), kitchen.found("1")
    assert (len(first), len(second), kitchen.found("2")) == (20, 5, [])
    assert {*first, *second} == {*kitchen.burns}
    assert second[-1] == "roll 0"
    assert "There are more: 'list 1' shows the next page." in kitchen("list")
    assert "There are more" not in kitchen("list", "1")
    assert kitchen("list", "2") == "There are none on page 2.\n"


def test_everything_that_is_known_is_shown(burnt: Kitchen) -> None:
    """The payload, the headers, the error with its traceback, and how often."""
    (row,) = json.loads(burnt("list", "--json", "--error", "KeyError"))
    shown = json.loads(burnt("show", str(row["id"]), "--json"))
    assert (shown["endpoint_id"], shown["channel"]) == ("bake", "oven")
    assert (shown["error_class"], shown["attempts"]) == ("KeyError", 2)
    assert "burnt cake" in shown["error_message"]
    assert "raise self.burns[dish]" in shown["traceback"]
    assert (shown["body"], json.loads(shown["headers"])["user"]) == ("cake", "ann")
    first, last = shown["first_failed_at"], shown["last_failed_at"]
    assert datetime.fromisoformat(first) <= datetime.fromisoformat(last)
    text = burnt("show", str(row["id"]))
    assert "raise self.burns[dish]" in text and "cake" in text
    assert "There is no dead letter 999999" in burnt("show", "999999", code=1)


def test_those_that_a_filter_leaves_are_put_back(burnt: Kitchen) -> None:
    """With the headers that they had; the others stay."""
    assert burnt("replay-all", "--endpoint", "bake") == "2 put back.\n"
    assert burnt.found() == ["7"]
    assert burnt.work().handled == 2
    assert [m.payload for m in burnt.served] == ["pie", "cake"]
    assert burnt.served[0].headers["user"] == "ann"
    assert burnt.served[0].headers["ecotone.dlq.message_replied"] == 1


def test_what_would_be_put_back_is_listed(burnt: Kitchen) -> None:
    """In the order of a replay, with their number; nothing is put back."""
    rows = json.loads(burnt("replay-all", "--dry-run", "--json"))
    assert [row["body"] for row in rows] == ["7", "pie", "cake"]
    chosen = ("replay-all", "--dry-run", "--endpoint", "bake")
    said = burnt(*chosen).splitlines()
    assert [line.split()[-1] for line in said[1:3]] == ["pie", "cake'"]
    assert said[-1] == "2 would be put back."
    assert burnt(*chosen, "--limit", "1").endswith("1 would be put back.\n")
    assert burnt("replay-all", "--dry-run", "--since", "0s") == (
        "0 would be put back.\n"
    )
    assert burnt.work().handled == 0
    assert burnt.letters.count() == 3
    assert "--json is for --dry-run" in burnt("replay-all", "--json", code=2)


def test_of_many_the_first_are_listed(kitchen: Kitchen) -> None:
    """JSON has all of them."""
    kitchen.burns = {f"roll {n}": ValueError for n in range(25)}
    kitchen.send("bake", *kitchen.burns)
    kitchen.work()
    said = kitchen("replay-all", "--dry-run").splitlines()
    assert said[-1] == "25 would be put back. The first 20 are listed."
    assert len(said) == 22
    assert len(json.loads(kitchen("replay-all", "--dry-run", "--json"))) == 25


def test_a_limited_number_is_put_back(burnt: Kitchen) -> None:
    """The oldest failure first; the same in code of the application."""
    assert burnt("replay-all", "--limit", "2") == "2 put back.\n"
    assert burnt.found() == ["cake"]
    assert burnt.letters.replay_all(limit=0) == 0
    assert burnt.letters.replay_all(limit=5) == 1
    assert "is not in the range" in burnt("replay-all", "--limit", "0", code=2)


def test_what_fails_again_is_one_dead_letter(burnt: Kitchen) -> None:
    """It says how often it was replayed, and what it failed with since."""
    (before,) = burnt.letters.list(error_class="KeyError")
    burnt.burns["cake"] = RuntimeError
    assert burnt.letters.replay_all() == 3
    burnt.work()
    (after,) = burnt.letters.list()
    assert (after.message_id, after.error_class) == (before.message_id, "RuntimeError")
    assert (before.attempts, before.replays) == (2, 0)
    assert (after.attempts, after.replays) == (2, 1)
    assert after.first_failed_at == before.first_failed_at <= after.last_failed_at


def test_a_payload_is_mended_and_put_back(burnt: Kitchen) -> None:
    """And so are headers; the handler gets what was written instead."""
    burnt.burns = {"pie": ValueError}
    (row,) = burnt.letters.list(error_class="ValueError", endpoint_id="bake")
    id = str(row.id)
    edit = ("edit", id, "--body", "tart", "--headers", '{"user": "bea"}')
    assert burnt(*edit) == "Changed.\n"
    assert burnt("replay", id) == "1 put back.\n"
    burnt.work()
    (served,) = burnt.served
    assert (served.payload, served.headers["user"]) == ("tart", "bea")


def test_what_could_not_be_read_is_mended_and_put_back(kitchen: Kitchen) -> None:
    """Its bytes are kept as they came."""
    kitchen.send("boil", 7)
    kitchen.execute(sa.update(messages).values(body=b"\xffseven"))
    kitchen.work()
    (parked,) = kitchen.letters.list()
    assert parked.body == b"\xffseven"
    assert r"\xffseven" in kitchen("show", str(parked.id))
    kitchen.letters.edit(parked.id, body=b"8")
    kitchen.letters.replay(parked.id)
    kitchen.work()
    assert [message.payload for message in kitchen.served] == [8]


def test_what_makes_no_sense_is_refused(burnt: Kitchen) -> None:
    """With a line that says why, and nothing is changed."""
    (id, *_) = [str(each.id) for each in burnt.letters.list()]
    assert "is no JSON object" in burnt("edit", id, "--headers", "[1]", code=2)
    assert "--body, --headers or both" in burnt("edit", id, code=2)
    assert "no dead letter 999999" in burnt("edit", "999999", "--body", "1", code=1)
    assert "no dead letter 999999" in burnt("replay", id, "999999", code=1)
    assert "is no age" in burnt("purge", "--older-than", "soon", code=2)
    assert "is no age" in burnt("list", "--since", "yesterday", code=2)
    with pytest.raises(TypeError, match="no filter 'chanel'"):
        burnt.letters.delete_all(chanel="oven")
    with pytest.raises(MessagingError, match="no time zone"):
        burnt.letters.count(since=datetime(2030, 1, 1))
    assert burnt.letters.count() == 3


def test_they_are_deleted(burnt: Kitchen) -> None:
    """By their ids, by a filter, and all of them."""
    (row,) = burnt.letters.list(error_class="KeyError")
    assert burnt("delete", str(row.id), "999999") == "1 deleted.\n"
    assert burnt.found() == ["pie", "7"]
    assert burnt.letters.delete_all(channel="stove") == 1
    assert burnt.letters.delete_all() == 1
    assert burnt.letters.count() == 0


def test_those_that_a_filter_leaves_are_deleted(burnt: Kitchen) -> None:
    """If that is confirmed, after their number was said."""
    said = burnt("delete", "--endpoint", "bake", says="n\n", code=1)
    assert said.startswith("2 would be deleted.\nDelete them? [y/N]: n\n")
    assert burnt.letters.count() == 3
    # Nobody is there to answer.
    assert "Aborted" in burnt("delete", "--endpoint", "bake", code=1)
    assert "2 deleted." in burnt("delete", "--endpoint", "bake", says="y\n")
    assert burnt.found() == ["7"]
    assert burnt("delete", "--since", "0s", "--channel", "stove") == (
        "0 would be deleted.\n"
    )
    assert burnt("delete", "--all", "--yes") == "1 deleted.\n"
    assert burnt.letters.count() == 0


@pytest.mark.parametrize(
    "arguments", [[], ["--yes"], ["1", "--all"], ["1", "--error", "x"]]
)
def test_who_deletes_says_what(burnt: Kitchen, arguments: list[str]) -> None:
    """By ids, filters or all of them, and not by two of these."""
    assert "ids, filters or --all" in burnt("delete", *arguments, code=2)
    assert burnt.letters.count() == 3


def test_what_fails_while_somebody_decides_is_not_deleted(
    burnt: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has seen it; a bound is there for code of the application as well."""

    def confirm(question: str, **options: t.Any) -> bool:
        burnt.burns = {"bun": ValueError}
        burnt.send("bake", "bun")
        burnt.work()
        return True

    monkeypatch.setattr("click.confirm", confirm)
    said = burnt("delete", "--endpoint", "bake")
    assert said == "2 would be deleted.\n2 deleted.\n"
    assert burnt.found() == ["bun", "7"]
    last = burnt.letters.last_id()
    assert last is not None
    assert burnt.letters.delete_all(up_to=last - 1) == 1
    assert burnt.found() == ["bun"]
    assert burnt.letters.delete_all() == 1
    assert burnt.letters.last_id() is None


def test_old_ones_are_purged(burnt: Kitchen) -> None:
    """By when they failed last, and only what a filter leaves of them."""
    days = timedelta(days=40) // timedelta(milliseconds=1)
    aged = sa.update(dead_letters).where(dead_letters.c.error_class == "ValueError")
    burnt.execute(aged.values(last_failed_at=dead_letters.c.last_failed_at - days))
    assert burnt("purge", "--older-than", "41d") == "0 deleted.\n"
    assert burnt("purge", "--older-than", "30d", "--channel", "oven") == "1 deleted.\n"
    assert burnt.found() == ["cake", "7"]
    assert burnt.letters.purge(timedelta(days=30)) == 1
    assert burnt.found() == ["cake"]


def test_they_are_counted(burnt: Kitchen) -> None:
    """By channel, endpoint and error, the largest number first."""
    burnt.burns = {"bun": ValueError}
    burnt.send("bake", "bun")
    burnt.work()
    counts = json.loads(burnt("stats", "--json"))
    assert counts[0] == {
        "tenant": None,
        "channel": "oven",
        "endpoint_id": "bake",
        "error_class": "ValueError",
        "count": 2,
    }
    assert sum(each["count"] for each in counts) == 4
    assert burnt("stats").splitlines()[1].split() == ["oven", "bake", "ValueError", "2"]
    (of_stove,) = json.loads(burnt("stats", "--json", "--channel", "stove"))
    assert (of_stove["endpoint_id"], of_stove["count"]) == ("boil", 1)


def test_code_of_the_application_has_them_as_a_service(burnt: Kitchen) -> None:
    """What a command does with them is part of its transaction."""
    with burnt.app.app_context():
        with pytest.raises(ValueError, match="no time"):
            command_bus.send_with_routing("again", True)
        assert burnt.letters.count() == 3
        assert command_bus.send_with_routing("again", False) == 3
        assert burnt.letters.count() == 0
    assert burnt.work().handled == 2


def test_they_are_found_by_a_moment(burnt: Kitchen) -> None:
    """Or by a time before now."""
    now = datetime.now(UTC)
    letters = burnt.letters
    assert letters.count(since=now - timedelta(hours=1)) == 3
    assert letters.count(since=now + timedelta(hours=1)) == 0
    assert letters.count(since=timedelta(hours=1)) == 3
    first, second = letters.list(limit=2)
    assert letters.show(first.id) == first
    assert letters.list(limit=2, offset=1)[0] == second
