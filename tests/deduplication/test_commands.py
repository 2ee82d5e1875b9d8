"""A command with a key is handled once, in the transaction of its handler."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import deduplicated
from flask_ecotone import presend
from flask_ecotone import without_transaction
from flask_ecotone.errors import DuplicateMessageError
from flask_ecotone.storage.deduplication import Handled

from ..unit_of_work.notebook import Notebook


@dataclass
class Pay:
    number: str
    fails: bool = False


@dataclass
class PayAll:
    fails: bool = False


@dataclass
class Refund:
    number: str


def send(notebook: Notebook, command: t.Any, **metadata: t.Any) -> t.Any:
    """Send a command in an app context of its own."""
    with notebook.app.app_context():
        return command_bus.send(command, metadata)


def test_a_repeated_key_is_skipped(notebook: Notebook) -> None:
    """The handler runs once for it, and the second caller gets nothing."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> str:
        notebook.write(command.number)
        return "paid"

    notebook.ecotone.register(pay)
    assert send(notebook, Pay("a")) == "paid"
    assert send(notebook, Pay("a")) is None
    assert send(notebook, Pay("b")) == "paid"
    assert notebook.stored() == ["a", "b"]


def test_a_repeated_key_is_refused(notebook: Notebook) -> None:
    """The error says whose key it is, and nothing is written."""

    @deduplicated(key="payload.number", on_duplicate="raise")
    @command_handler(endpoint_id="pay")
    def pay(command: Pay) -> None:
        notebook.write(command.number)

    notebook.ecotone.register(pay)
    send(notebook, Pay("a"))
    with pytest.raises(DuplicateMessageError, match="pay has handled .* 'a'") as found:
        send(notebook, Pay("a"))
    assert (found.value.endpoint_id, found.value.key) == ("pay", "a")
    assert notebook.stored() == ["a"]


def test_a_failed_command_can_be_repeated(notebook: Notebook) -> None:
    """The key is forgotten with what the handler wrote."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> str:
        notebook.write(command.number)
        if command.fails:
            raise ValueError("no money")
        return "paid"

    notebook.ecotone.register(pay)
    with pytest.raises(ValueError, match="no money"):
        send(notebook, Pay("a", fails=True))
    assert notebook.stored() == []
    assert send(notebook, Pay("a")) == "paid"
    assert send(notebook, Pay("a")) is None
    assert notebook.stored() == ["a"]


@pytest.mark.parametrize("how", ["raises", "violates"])
def test_a_swallowed_failure_frees_the_key(notebook: Notebook, how: str) -> None:
    """The command around it goes on and commits, and the key can come again."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> str:
        if command.fails and how == "raises":
            raise ValueError("no money")
        if command.fails:
            with notebook.db.session.begin_nested():
                notebook.write("before")
        notebook.write(command.number)
        return "paid"

    @command_handler
    def pay_all(command: PayAll, bus: CommandBus) -> str | None:
        notebook.write("before")
        notebook.db.session.flush()
        with pytest.raises((ValueError, sa.exc.IntegrityError)):
            bus.send(Pay("a", fails=True))
        return t.cast("str | None", bus.send(Pay("a")))

    notebook.ecotone.register(pay, pay_all)
    assert send(notebook, PayAll()) == "paid"
    assert notebook.stored() == ["before", "a"]
    assert send(notebook, Pay("a")) is None


def test_the_failure_of_the_command_around_it_frees_the_key(
    notebook: Notebook,
) -> None:
    """What was handled in it is undone with it."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> str:
        notebook.write(command.number)
        return "paid"

    @command_handler
    def pay_all(command: PayAll, bus: CommandBus) -> t.Any:
        result = bus.send(Pay("a"))
        if command.fails:
            raise ValueError("closed")
        return result

    notebook.ecotone.register(pay, pay_all)
    with pytest.raises(ValueError, match="closed"):
        send(notebook, PayAll(fails=True))
    assert send(notebook, PayAll(fails=False)) == "paid"
    assert send(notebook, PayAll(fails=False)) is None
    assert notebook.stored() == ["a"]


@pytest.mark.parametrize("first_fails", [False, True])
def test_of_two_at_the_same_time_one_is_handled(
    notebook: Notebook, first_fails: bool
) -> None:
    """The second waits; it is handled only if the first one fails."""
    entered, others = threading.Event(), threading.Event()
    ran: list[str] = []

    @deduplicated(key="key", on_duplicate="return_cached")
    @command_handler
    def pay(command: Pay) -> str:
        ran.append(command.number)
        notebook.write(command.number)
        notebook.db.session.flush()
        if len(ran) == 1:
            entered.set()
            assert others.wait(30)
            # The others are at the database by now, or will be.
            if command.fails:
                raise ValueError("no money")
        return command.number

    notebook.ecotone.register(pay)
    with notebook.app.app_context():
        notebook.ecotone.compile()
    results: list[t.Any] = []

    def run(command: Pay, waits: bool) -> None:
        if waits:
            assert entered.wait(30)
            if threading.active_count() >= 5:
                others.set()
        try:
            results.append(send(notebook, command, key="k"))
        except ValueError as error:
            results.append(str(error))

    threads = [threading.Thread(target=run, args=(Pay("1", first_fails), False))]
    threads += [
        threading.Thread(target=run, args=(Pay(f"{n}"), True)) for n in range(2, 6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if first_fails:
        assert len(ran) == 2
        assert sorted(results) == sorted([ran[1]] * 4 + ["no money"])
        assert notebook.stored() == [ran[1]]
    else:
        assert ran == ["1"]
        assert results == ["1"] * 5
        assert notebook.stored() == ["1"]


def test_of_several_that_wait_for_one_that_fails_one_is_handled(
    notebook: Notebook,
) -> None:
    """Nobody gets an error of the database for it."""
    if notebook.engine.dialect.name == "sqlite":
        pytest.skip("there nothing says who waits")
    ran: list[str] = []

    @deduplicated(key="key", on_duplicate="return_cached")
    @command_handler(endpoint_id="pay")
    def pay(command: Pay) -> str:
        ran.append(command.number)
        notebook.write(command.number)
        return command.number

    notebook.ecotone.register(pay)
    send(notebook, Pay("first"), key="prepares the table")
    results: list[t.Any] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(send(notebook, Pay(f"{n}"), key="k"))
        )
        for n in range(4)
    ]
    with notebook.engine.connect() as connection:
        assert Handled("deduplicated").note(connection, "k", "pay")
        for thread in threads:
            thread.start()
        # MariaDB looks again only if nobody has asked for 0.1 seconds.
        pause = threading.Event()
        while waiting(notebook.engine) < 4 and threads[0].is_alive():
            pause.wait(0.2)
        connection.rollback()
    for thread in threads:
        thread.join(30)
    assert len(ran) == 2
    assert results == [ran[1]] * 4
    assert notebook.stored() == ran


def waiting(engine: sa.Engine) -> int:
    """Return how many wait for a lock."""
    query = (
        "SELECT count(*) FROM information_schema.innodb_trx"
        " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
        " WHERE trx_state = 'LOCK WAIT' AND db = database()"
        if engine.dialect.name == "mysql"
        else "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


def test_two_handlers_have_keys_of_their_own(notebook: Notebook) -> None:
    """One key may come to each of them."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> str:
        return "paid"

    @deduplicated(key="payload.number")
    @command_handler
    def refund(command: Refund) -> str:
        return "refunded"

    notebook.ecotone.register(pay, refund)
    assert send(notebook, Pay("a")) == "paid"
    assert send(notebook, Refund("a")) == "refunded"
    assert send(notebook, Refund("a")) is None


def test_a_message_that_sends_itself_is_skipped(notebook: Notebook) -> None:
    """The key is noted before the handler runs; replies aren't there yet."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay, bus: CommandBus) -> list[t.Any]:
        return ["paid", bus.send(command)]

    @deduplicated(key="payload", on_duplicate="return_cached")
    @command_handler("refund")
    def refund(number: str, bus: CommandBus) -> t.Any:
        return bus.send_with_routing("refund", number)

    notebook.ecotone.register(pay, refund)
    assert send(notebook, Pay("a")) == ["paid", None]
    with notebook.app.app_context():
        with pytest.raises(DuplicateMessageError, match="sends the message to itself"):
            command_bus.send_with_routing("refund", "a")


def test_the_table_comes_even_if_the_view_has_read_before(notebook: Notebook) -> None:
    """It isn't there when the first command is sent, and a transaction is."""

    @deduplicated(key="payload.number")
    @command_handler
    def pay(command: Pay) -> None:
        notebook.write(command.number)

    notebook.ecotone.register(pay)
    with notebook.app.app_context():
        assert notebook.db.session.query(notebook.Note).all() == []
        command_bus.send(Pay("a"))
        command_bus.send(Pay("a"))
    assert notebook.stored() == ["a"]


def test_without_a_transaction_a_success_is_noted(notebook: Notebook) -> None:
    """The handler commits by itself, and is repeated only if it failed."""
    ran: list[str] = []

    @deduplicated(key="payload.number", on_duplicate="return_cached")
    @without_transaction
    @command_handler
    def pay(command: Pay) -> str:
        ran.append(command.number)
        if command.fails:
            raise ValueError("no money")
        notebook.write(command.number)
        notebook.db.session.commit()
        return "paid"

    notebook.ecotone.register(pay)
    with pytest.raises(ValueError, match="no money"):
        send(notebook, Pay("a", fails=True))
    assert send(notebook, Pay("a")) == "paid"
    assert send(notebook, Pay("a")) == "paid"
    assert ran == ["a", "a"]
    assert notebook.stored() == ["a"]


def test_without_a_transaction_two_at_the_same_time_both_run(
    notebook: Notebook, caplog: pytest.LogCaptureFixture
) -> None:
    """A note before would lose the message of who dies; the log says that they did."""
    ran: list[str] = []

    @deduplicated(key="payload.number")
    @without_transaction
    @command_handler(endpoint_id="pay")
    def pay(command: Pay) -> None:
        ran.append(command.number)
        if len(ran) == 1:
            other = threading.Thread(target=lambda: send(notebook, command))
            other.start()
            other.join()

    notebook.ecotone.register(pay)
    send(notebook, Pay("a"))
    assert ran == ["a", "a"]
    (warning,) = [each for each in caplog.records if each.levelname == "WARNING"]
    assert "pay has handled two messages with the key 'a'" in warning.getMessage()
    assert "@without_transaction" in warning.getMessage()
    send(notebook, Pay("a"))
    assert ran == ["a", "a"]


def test_presend_interceptors_come_before_the_key(paper: Notebook) -> None:
    """They run for repeated messages too, and may give the key."""
    seen: list[str] = []

    @deduplicated(key="key")
    @command_handler
    def pay(command: Pay) -> str:
        return "paid"

    @presend(pointcut=pay, change_headers=True)
    def give_key(command: Pay) -> dict[str, str]:
        seen.append(command.number)
        return {"key": command.number.lower()}

    paper.ecotone.register(pay, give_key)
    assert send(paper, Pay("a")) == "paid"
    assert send(paper, Pay("A")) is None
    assert seen == ["a", "A"]


def test_a_class_says_it_for_its_handlers(paper: Notebook) -> None:
    """Each of them once."""

    @deduplicated(key="key")
    class Desk:
        @command_handler("pay")
        def pay(self) -> str:
            return "paid"

        @command_handler("refund")
        def refund(self) -> str:
            return "refunded"

    paper.ecotone.register(Desk)
    with paper.app.app_context():
        sent = command_bus.send_with_routing
        assert [
            sent(key, metadata={"key": "k"}) for key in ("pay", "refund", "pay")
        ] == ["paid", "refunded", None]
