"""What a handler swallows, and what a lost connection hides."""

from __future__ import annotations

import threading
import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import instant_retry
from flask_ecotone.errors import UnitOfWorkError

from .notebook import Notebook


def test_an_aborted_transaction_is_not_success(postgres_url: str) -> None:
    """PostgreSQL rolls back at the commit: the sender is told so."""
    notebook = Notebook(postgres_url)
    session = notebook.db.session

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        session.flush()
        try:
            session.execute(sa.text("SELECT * FROM nothing_of_that_name"))
        except sa.exc.DBAPIError:
            pass

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="swallowed an error of the database"):
            command_bus.send_with_routing("write", "milk")
        assert notebook.stored() == []


def test_a_savepoint_makes_an_error_harmless(notebook: Notebook) -> None:
    """An error inside of a savepoint that is given up doesn't end the transaction."""
    session = notebook.db.session

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        try:
            with session.begin_nested():
                session.execute(sa.text("SELECT * FROM nothing_of_that_name"))
        except sa.exc.DBAPIError:
            pass

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        assert notebook.stored() == ["milk"]


def test_an_error_of_another_connection_is_harmless(postgres_url: str) -> None:
    """What the handler does on a connection of its own isn't the unit of work."""
    notebook = Notebook(postgres_url)

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        with notebook.db.engine.connect() as connection:
            with pytest.raises(sa.exc.DBAPIError):
                connection.execute(sa.text("SELECT * FROM nothing_of_that_name"))

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        assert notebook.stored() == ["milk"]


def test_half_a_command_is_not_stored_after_a_deadlock(mariadb_url: str) -> None:
    """MariaDB rolls back what came before a deadlock: what follows isn't stored."""
    notebook = Notebook(mariadb_url)
    Note, session = notebook.Note, notebook.db.session
    both_hold = threading.Barrier(2)
    victims: list[int] = []
    outcomes: list[type[BaseException] | None] = []

    @command_handler("lock")
    def lock(first: int) -> None:
        session.execute(
            sa.update(Note).where(Note.id == first).values(text=f"a{first}")
        )
        both_hold.wait(10)
        try:
            other = sa.update(Note).where(Note.id == 3 - first)
            session.execute(other.values(text=f"b{first}"))
        except sa.exc.OperationalError:
            victims.append(first)
        session.execute(sa.insert(Note).values(id=10 + first, text=f"after {first}"))

    def send(first: int) -> None:
        with notebook.app.app_context():
            try:
                command_bus.send_with_routing("lock", first)
                outcomes.append(None)
            except UnitOfWorkError as error:
                outcomes.append(type(error))

    notebook.ecotone.register(lock)
    with notebook.app.app_context():
        session.add_all([Note(id=1, text="one"), Note(id=2, text="two")])
        session.commit()
    threads = [threading.Thread(target=send, args=(first,)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(victims) == 1
    assert sorted(map(str, outcomes)) == sorted(map(str, [None, UnitOfWorkError]))
    assert f"after {victims[0]}" not in notebook.stored()


@pytest.mark.parametrize("listed", [sa.exc.ProgrammingError, KeyError])
def test_a_swallowed_error_is_tried_again_if_it_is_listed(
    postgres_url: str, listed: type[Exception]
) -> None:
    """A retry of database errors also covers those that a handler swallowed."""
    notebook = Notebook(postgres_url)
    session = notebook.db.session
    attempts: list[str] = []

    @instant_retry(2, exceptions=listed)
    @command_handler("write")
    def write(text: str) -> None:
        attempts.append(text)
        notebook.write(text)
        session.flush()
        if len(attempts) == 1:
            try:
                session.execute(sa.text("SELECT * FROM nothing_of_that_name"))
            except sa.exc.ProgrammingError:
                pass

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        if listed is KeyError:
            with pytest.raises(UnitOfWorkError, match="swallowed") as caught:
                command_bus.send_with_routing("write", "milk")
            assert isinstance(caught.value.__cause__, sa.exc.ProgrammingError)
            assert len(attempts) == 1
            assert notebook.stored() == []
        else:
            command_bus.send_with_routing("write", "milk")
            assert len(attempts) == 2
            assert notebook.stored() == ["milk"]


def test_a_swallowed_deadlock_is_tried_again(mariadb_url: str) -> None:
    """Both commands are stored whole: the victim's second try finds no lock."""
    notebook = Notebook(mariadb_url)
    Note, session = notebook.Note, notebook.db.session
    both_hold = threading.Barrier(2)
    attempts: list[int] = []
    failures: list[BaseException] = []

    @instant_retry(3, exceptions=sa.exc.OperationalError)
    @command_handler("lock")
    def lock(first: int) -> None:
        is_retry = first in attempts
        attempts.append(first)
        mine = sa.update(Note).where(Note.id == first)
        session.execute(mine.values(text=f"a{first}"))
        if not is_retry:
            both_hold.wait(10)
        try:
            other = sa.update(Note).where(Note.id == 3 - first)
            session.execute(other.values(text=f"b{first}"))
        except sa.exc.OperationalError:
            pass
        session.execute(sa.insert(Note).values(id=10 + first, text=f"after {first}"))

    def send(first: int) -> None:
        with notebook.app.app_context():
            try:
                command_bus.send_with_routing("lock", first)
            except BaseException as error:
                failures.append(error)

    notebook.ecotone.register(lock)
    with notebook.app.app_context():
        session.add_all([Note(id=1, text="one"), Note(id=2, text="two")])
        session.commit()
    threads = [threading.Thread(target=send, args=(first,)) for first in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(attempts) == 3
    assert {"after 1", "after 2"} <= set(notebook.stored())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_lost_connection_hides_no_exception(
    notebook: Notebook, error: type[BaseException]
) -> None:
    """The sender gets the handler's exception, also if the rollback fails."""
    session = notebook.db.session

    @command_handler("lose")
    def lose(text: str) -> None:
        notebook.write(text)
        session.flush()
        driver: t.Any = session.connection().connection.driver_connection
        driver.close()
        raise error("mine")

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(lose, write)
    with notebook.app.app_context():
        with pytest.raises(error, match="mine"):
            command_bus.send_with_routing("lose", "milk")
        assert notebook.in_use == 0
        command_bus.send_with_routing("write", "tea")
        assert notebook.stored() == ["tea"]


def test_a_command_follows_a_savepoint(notebook: Notebook) -> None:
    """A savepoint that a view has left doesn't keep it from sending a command."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with notebook.db.session.begin_nested():
            notebook.write("milk")
        command_bus.send_with_routing("write", "tea")
        assert notebook.stored() == ["milk", "tea"]
        with notebook.db.session.begin():
            with pytest.raises(UnitOfWorkError, match="begin"):
                command_bus.send_with_routing("write", "rum")


def test_no_retry_loses_what_a_savepoint_wrote(notebook: Notebook) -> None:
    """What a view wrote in a savepoint counts as unsaved: nothing is tried again."""
    attempts: list[str] = []

    @instant_retry(2)
    @command_handler("fail.once")
    def fail_once(text: str) -> None:
        attempts.append(text)
        if len(attempts) == 1:
            raise ValueError("once")

    notebook.ecotone.register(fail_once)
    with notebook.app.app_context():
        with notebook.db.session.begin_nested():
            notebook.write("milk")
        with pytest.raises(ValueError, match="once"):
            command_bus.send_with_routing("fail.once", "tea")


def test_a_shared_connection_keeps_what_others_wrote() -> None:
    """In a database in memory a command doesn't roll back another session's work."""
    notebook = Notebook("sqlite://")

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        notebook.write("outside")
        notebook.db.session.flush()
        with notebook.app.app_context():
            command_bus.send_with_routing("write", "inside")
        notebook.db.session.commit()
        texts = notebook.db.session.scalars(sa.select(notebook.Note.text))
        assert sorted(texts) == ["inside", "outside"]
