"""The messages of a claim in one transaction, each in a savepoint of it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import InMemoryChannel
from flask_ecotone import instant_retry
from flask_ecotone import without_transaction
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages

Act = Callable[[int], None]


class Works:
    """An application whose handlers do what the test says, beside writing a row."""

    def __init__(
        self, url: str, transaction: t.Literal["message", "batch"] = "batch"
    ) -> None:
        self.app = app = Flask("works")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)
        self.began: list[int] = []
        self.act: Act = lambda number: None

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            number: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

        self.row = Row

        def write(number: int) -> None:
            self.began.append(number)
            db.session.add(Row(number=number))
            db.session.flush()
            self.act(number)

        @asynchronous("rows")
        @delayed_retry(0, max_attempts=0)
        @command_handler("write", endpoint_id="write")
        def handle(number: int) -> None:
            write(number)

        @asynchronous("rows")
        @delayed_retry(3_600_000, max_attempts=1)
        @command_handler("write.later", endpoint_id="write.later")
        def handle_later(number: int) -> None:
            write(number)

        @asynchronous("rows")
        @instant_retry(2, exceptions=ConcurrencyError)
        @command_handler("write.again", endpoint_id="write.again")
        def handle_again(number: int) -> None:
            write(number)

        @asynchronous("rows")
        @without_transaction
        @command_handler("apart", endpoint_id="apart")
        def handle_apart(number: int) -> None:
            self.began.append(number)
            self.act(number)

        @instant_retry(2, exceptions=ConcurrencyError)
        @command_handler("retried")
        def handle_retried(number: int) -> None:
            write(number)

        @asynchronous("memory")
        @command_handler("later", endpoint_id="later")
        def later(number: int) -> None:
            self.began.append(number)

        self.ecotone = Ecotone(
            packages=[],
            channels=[
                DatabaseChannel("rows", batch=5, transaction=transaction),
                InMemoryChannel("memory"),
            ],
        )
        self.ecotone.register(
            handle, handle_later, handle_again, handle_apart, handle_retried, later
        )
        self.ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            self.ecotone.compile()
            self.engine = db.engine

    @property
    def messaging(self) -> t.Any:
        """The channels and workers."""
        return self.app.extensions["ecotone"].messaging

    def send(self, *numbers: int, to: str = "write") -> None:
        """Send a message for each number, in one transaction."""
        with self.app.app_context():
            for number in numbers:
                self.db.session.execute(sa.text("SELECT 1"))
                command_bus.send_with_routing(to, number)
            self.db.session.commit()

    def work(self, **limits: t.Any) -> Outcome:
        """Let a worker empty the channel."""
        limit = Limits(finishes_when_empty=True, **limits)
        return t.cast(Outcome, self.messaging.worker(["rows"], limits=limit).run())

    def rows(self) -> list[int]:
        """What is committed."""
        with self.engine.connect() as connection:
            return list(connection.scalars(sa.select(self.row.number)))

    def left(self) -> int:
        """How many messages there are, in whatever state."""
        with self.engine.connect() as connection:
            return int(connection.scalar(sa.select(sa.func.count(messages.c.id))) or 0)


@pytest.fixture
def works(database_url: str) -> Works:
    """An application on SQLite, PostgreSQL and MariaDB in turn."""
    return Works(database_url)


def test_a_claim_is_committed_once(works: Works) -> None:
    """Ten messages in two claims are two transactions of handlers."""
    works.send(*range(1, 11))
    writing: set[sa.Connection] = set()
    commits: list[sa.Connection] = []

    @sa.event.listens_for(works.engine, "before_cursor_execute")
    def note(connection: sa.Connection, cursor: t.Any, text: str, *rest: t.Any) -> None:
        if "row" in text.partition("(")[0]:
            writing.add(connection)

    @sa.event.listens_for(works.engine, "commit")
    def count(connection: sa.Connection) -> None:
        if connection in writing:
            commits.append(connection)
            writing.discard(connection)

    assert works.work().handled == 10
    assert sorted(works.rows()) == list(range(1, 11))
    assert works.left() == 0
    assert len(commits) == 2


def test_nothing_is_visible_before_the_last_one_is_done(works: Works) -> None:
    """The messages of a claim are one transaction."""
    seen: list[list[int]] = []
    works.act = lambda number: seen.append(works.rows())
    works.send(1, 2, 3)
    works.work()
    assert seen == [[], [], []]
    assert sorted(works.rows()) == [1, 2, 3]


def test_one_that_fails_takes_only_itself_along(works: Works) -> None:
    """Those before and after it are handled once."""

    def act(number: int) -> None:
        if number == 3:
            raise ValueError("three")

    works.act = act
    works.send(1, 2, 3, 4, 5)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (4, 1)
    assert sorted(works.rows()) == [1, 2, 4, 5]
    assert works.began.count(3) == 1
    (letter,) = works.messaging.dead_letters.list()
    assert letter.error_message == "three"


def test_a_lost_connection_in_the_midst_loses_and_doubles_nothing(
    works: Works,
) -> None:
    """All of the claim comes again when the transaction is gone."""
    if works.engine.dialect.name == "sqlite":
        pytest.skip("there is no connection to lose")
    lost: list[int] = []

    def act(number: int) -> None:
        if number == 3 and not lost:
            lost.append(number)
            connection = works.db.session.connection()
            name = connection.dialect.name
            ask = "pg_backend_pid()" if name == "postgresql" else "connection_id()"
            process = connection.scalar(sa.text(f"SELECT {ask}"))
            kill = "SELECT pg_terminate_backend(:process)"
            if name != "postgresql":
                kill = "KILL :process"
            with works.engine.connect() as other:
                other.execute(sa.text(kill), {"process": process})

    works.act = act
    works.send(1, 2, 3, 4)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (4, 0)
    assert sorted(works.rows()) == [1, 2, 3, 4]
    assert works.messaging.dead_letters.count() == 0


def test_a_lost_race_is_repeated_in_the_batch(works: Works) -> None:
    """Instant retry begins a savepoint of its own each time."""
    failed: list[int] = []

    def act(number: int) -> None:
        if number == 2 and len(failed) < 2:
            failed.append(number)
            raise ConcurrencyError("too late")

    works.act = act
    works.send(1, 2, 3, to="write.again")
    assert works.work().handled == 3
    assert sorted(works.rows()) == [1, 2, 3]
    assert works.began == [1, 2, 2, 2, 3]


def test_a_swallowed_error_of_the_database_fails_its_message_alone(
    works: Works,
) -> None:
    """What the database refused isn't committed with the others."""

    def act(number: int) -> None:
        if number == 2:
            try:
                works.db.session.execute(sa.text("SELECT * FROM nowhere"))
            except sa.exc.DBAPIError:
                pass

    works.act = act
    works.send(1, 2, 3)
    outcome = works.work()
    expected = [1, 3] if works.engine.dialect.name == "postgresql" else [1, 2, 3]
    assert sorted(works.rows()) == expected
    assert outcome.handled == len(expected)


def test_a_rollback_in_a_handler_fails_its_message_alone(works: Works) -> None:
    """It leaves the others in their savepoints."""
    works.act = lambda number: number == 2 and works.db.session.rollback()
    works.send(1, 2, 3)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (2, 1)
    assert sorted(works.rows()) == [1, 3]


@pytest.mark.parametrize("is_sql", [True, False], ids=["sql", "connection"])
def test_a_transaction_that_a_handler_ends_loses_nothing(
    works: Works, is_sql: bool
) -> None:
    """The others are handled again; its own message waits, or fails."""

    def act(number: int) -> None:
        if number == 3 and is_sql:
            works.db.session.execute(sa.text("ROLLBACK"))
        elif number == 3:
            works.db.session.connection().rollback()

    works.act = act
    works.send(1, 2, 3, 4, 5, 6)
    works.work()
    assert sorted(works.rows()) == [1, 2, 4, 5, 6]
    assert works.left() + works.messaging.dead_letters.count() == 1


def test_one_that_ends_the_transaction_and_fails_is_found_out_later(
    works: Works,
) -> None:
    """Nothing that the others did is lost or done twice, before it or after it."""

    def act(number: int) -> None:
        if number == 3:
            works.db.session.execute(sa.text("ROLLBACK"))
            raise ValueError("and says nothing of it")

    works.act = act
    works.send(1, 2, 3, 4, 5)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (4, 1)
    assert sorted(works.rows()) == [1, 2, 4, 5]
    assert works.left() == 0
    (letter,) = works.messaging.dead_letters.list()
    assert letter.error_message == "and says nothing of it"


def lose_connection(works: Works) -> None:
    """Let the server hang up, or as it were."""
    name = works.engine.dialect.name
    if name == "postgresql":
        end = sa.text("SELECT pg_terminate_backend(pg_backend_pid())")
        works.db.session.execute(end)
    elif name == "mysql":
        # More than it takes in one packet.
        large = {"text": "x" * 40_000_000}
        works.db.session.execute(sa.text("SELECT LENGTH(:text)"), large)
    else:
        pooled = works.db.session.connection().connection
        t.cast(t.Any, pooled.driver_connection).close()


@pytest.mark.parametrize("transaction", ["message", "batch"])
def test_a_message_that_loses_its_connections_stops_nobody(
    database_url: str, transaction: t.Literal["message", "batch"]
) -> None:
    """It has failed, after a few times, as the database answers in between."""
    works = Works(database_url, transaction)
    works.act = lambda number: number == 3 and lose_connection(works)
    works.send(1, 2, 3, 4, 5, 6)
    outcome = works.work(execution_time=60)
    assert outcome.reason == "no messages"
    assert (outcome.handled, outcome.failed) == (5, 1)
    assert sorted(works.rows()) == [1, 2, 4, 5, 6]
    (letter,) = works.messaging.dead_letters.list()
    assert letter.error_class.startswith("sqlalchemy.exc.")


def test_a_nested_context_and_a_commit_stay_in_the_savepoint(works: Works) -> None:
    """Nothing of a message is stored if it fails in the end."""

    def act(number: int) -> None:
        with works.app.app_context():
            works.db.session.add(works.row(number=number + 100))
            works.db.session.commit()
        if number == 2:
            raise ValueError("two")

    works.act = act
    works.send(1, 2, 3)
    works.work()
    assert sorted(works.rows()) == [1, 3, 101, 103]


def test_what_is_sent_elsewhere_goes_out_after_the_commit(works: Works) -> None:
    """Another channel gets its messages once, and only of those that succeeded."""
    lengths: list[int] = []

    def act(number: int) -> None:
        command_bus.send_with_routing("later", number)
        memory = works.messaging.channels.get("memory").sources()[0]
        lengths.append(memory.status().ready)
        if number == 2:
            raise ValueError("two")

    works.act = act
    works.send(1, 2, 3)
    works.work()
    memory = works.messaging.channels.get("memory").sources()[0]
    assert lengths[:2] == [0, 0]
    assert memory.status().ready == 2


def test_what_another_application_sends_is_not_part_of_the_batch(
    works: Works, second_database_url: str
) -> None:
    """It goes out when that has committed, whatever becomes of the batch."""
    others = Works(second_database_url)
    memory = others.messaging.channels.get("memory")
    lengths: list[int] = []

    def act(number: int) -> None:
        with others.app.app_context():
            others.db.session.add(others.row(number=number))
            command_bus.send_with_routing("later", number)
            others.db.session.commit()
        lengths.append(memory.status().ready)
        raise ValueError("no good day")

    works.act = act
    works.send(1, 2)
    works.work()
    assert lengths == [1, 2]
    assert (works.rows(), others.rows()) == ([], [1, 2])


def test_another_application_may_repeat_its_command_in_a_batch(
    works: Works, second_database_url: str
) -> None:
    """Its transaction isn't the one that the messages share."""
    others = Works(second_database_url)
    failed: list[int] = []

    def fail_once(number: int) -> None:
        if not failed:
            failed.append(number)
            raise ConcurrencyError("too late")

    others.act = fail_once

    def act(number: int) -> None:
        with others.app.app_context():
            command_bus.send_with_routing("retried", number)

    works.act = act
    works.send(1, 2)
    assert works.work().handled == 2
    assert others.rows() == [1, 2]
    assert (works.began, others.began) == ([1, 2], [1, 1, 2])


def test_messages_that_need_no_transaction_are_handled_between(works: Works) -> None:
    """They aren't part of the batch, and end it."""
    works.send(1, 2)
    works.send(3, to="apart")
    works.send(4, 5)
    assert works.work().handled == 5
    assert works.began == [1, 2, 3, 4, 5]
    assert sorted(works.rows()) == [1, 2, 4, 5]


def test_copies_in_one_claim_are_handled_once(works: Works) -> None:
    """The second one is found out, and the batch is repeated one by one."""
    works.send(1, 2)
    with works.engine.begin() as connection:
        first = connection.execute(sa.select(messages).limit(1)).one()._asdict()
        first.pop("id")
        connection.execute(sa.insert(messages).values(**first))
    assert works.work().handled == 3
    assert sorted(works.rows()) == [1, 2]
    with works.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count(handled.c.key))) == 2


def test_a_lost_lease_leaves_the_message_to_its_new_owner(works: Works) -> None:
    """Of its neighbours nothing is lost."""

    def act(number: int) -> None:
        if number != 3 or works.began.count(3) > 1:
            return
        if works.engine.dialect.name == "sqlite":
            # Nobody else can write as long as the batch lasts.
            return
        with works.engine.begin() as connection:
            stolen = sa.update(messages).where(messages.c.body == b"2")
            connection.execute(stolen.values(token="somebody else's"))

    works.act = act
    works.send(1, 2, 3)
    works.work()
    stolen = works.engine.dialect.name != "sqlite"
    assert sorted(works.rows()) == ([1, 3] if stolen else [1, 2, 3])
    assert works.left() == (1 if stolen else 0)


def test_a_limit_ends_a_batch_early(works: Works) -> None:
    """What isn't begun is free for others."""
    works.send(*range(1, 6))
    assert works.work(handled=2).handled == 2
    assert len(works.rows()) == 2
    assert works.left() == 3


def test_a_wrong_transaction_is_refused() -> None:
    """The error says what there is."""
    with pytest.raises(ConfigurationError, match="'message' or 'batch'"):
        DatabaseChannel("rows", transaction="all")  # type: ignore[arg-type]
