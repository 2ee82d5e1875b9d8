"""SQL of business interfaces is part of the transaction around it."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask import current_app
from sqlalchemy.exc import IntegrityError

from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.testing import flow_testing

from .conftest import NewApplication
from .people import Application
from .people import People
from .people import Person


@dataclass
class Join:
    id: int
    name: str
    fails: bool = False
    in_nested_context: bool = False


@dataclass
class Joined:
    id: int


@command_handler
def join(command: Join, people: People) -> int:
    if command.in_nested_context:
        with current_app.app_context():
            people.add(command.id, command.name)
            assert people.count() == 1
    else:
        people.add(command.id, command.name)

    count = people.count()

    if command.fails:
        raise LookupError("no room")

    return count


@dataclass
class Gather:
    fails: bool = False


@command_handler
def gather(command: Gather, people: People) -> None:
    people.add(1, "Ada")
    event_bus.publish(Joined(1))

    if command.fails:
        raise LookupError("no room")


@event_handler
def greet(event: Joined, people: People) -> None:
    people.add(event.id + 1, f"Guest of {people.names()[0]}")


class Writes(t.Protocol):
    @sql_write("UPDATE person SET name = :name WHERE id > :above")
    def rename(self, name: str, above: int = 0) -> int: ...
    @sql_write("DELETE FROM person")
    def clear(self) -> None: ...
    @sql_query("INSERT INTO person (id, name) VALUES (:id, :name) RETURNING id")
    def add(self, id: int, name: str) -> int: ...
    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name) RETURNING id")
    def add_counted(self, id: int, name: str) -> int: ...


class Everything(t.Protocol):
    @sql_query("SELECT name FROM person WHERE id = :id")
    def name(self, id: int) -> str | None: ...

    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name)")
    def add(self, id: int, name: str) -> None: ...

    @business_method("people.greet")
    def greet(self, name: str) -> str: ...


@query_handler("people.greet")
def greeting(name: str) -> str:
    return f"Hello, {name}!"


class Elsewhere(t.Protocol):
    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name)", bind="archive")
    def add(self, id: int, name: str) -> None: ...

    @sql_query("SELECT name FROM person ORDER BY id", bind="archive")
    def names(self) -> Iterator[str]: ...


@dataclass
class Archive:
    id: int
    fails: bool = False


@command_handler
def archive(command: Archive, people: People, elsewhere: Elsewhere) -> None:
    people.add(command.id, "here")
    elsewhere.add(command.id, "there")

    if command.fails:
        raise LookupError("no room")


def test_command_commits_what_its_handler_wrote(
    new_application: NewApplication,
) -> None:
    """After a command another connection sees the rows; the handler saw them before."""
    made = new_application(People, join)

    assert command_bus.send(Join(1, "Ada")) == 1
    assert made.rows() == [(1, "Ada")]


def test_failed_command_leaves_no_rows(new_application: NewApplication) -> None:
    """What SQL wrote is rolled back with the unit of work."""
    made = new_application(People, join)

    with pytest.raises(LookupError):
        command_bus.send(Join(1, "Ada", fails=True))

    assert made.rows() == []
    assert made.ecotone.get(People).count() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_nested_app_context_is_part_of_the_command(
    new_application: NewApplication, fails: bool
) -> None:
    """In another app context the interface joins the command's transaction."""
    made = new_application(People, join)
    command = Join(1, "Ada", fails=fails, in_nested_context=True)

    if fails:
        with pytest.raises(LookupError):
            command_bus.send(command)
    else:
        assert command_bus.send(command) == 1

    assert made.rows() == ([] if fails else [(1, "Ada")])


@pytest.mark.parametrize("fails", [False, True])
def test_event_handlers_share_the_transaction(
    new_application: NewApplication, fails: bool
) -> None:
    """A synchronous event handler sees and extends what the command wrote."""
    made = new_application(People, gather, greet)

    if fails:
        with pytest.raises(LookupError):
            command_bus.send(Gather(fails=True))
    else:
        command_bus.send(Gather())

    expected = [] if fails else [(1, "Ada"), (2, "Guest of Ada")]
    assert made.rows() == expected


def test_outside_of_a_command_the_view_commits(new_application: NewApplication) -> None:
    """Like any use of db.session, SQL outside of a command waits for a commit."""
    made = new_application(People)
    people = made.ecotone.get(People)
    people.add(1, "Ada")
    assert people.count() == 1
    made.db.session.rollback()
    assert people.count() == 0

    people.add(1, "Ada")
    made.db.session.commit()
    assert made.rows() == [(1, "Ada")]


def test_failed_statement_raises_what_the_database_says(
    new_application: NewApplication,
) -> None:
    """An error of the database reaches the caller as SQLAlchemy raises it."""
    made = new_application(People, join)
    command_bus.send(Join(1, "Ada"))

    with pytest.raises(IntegrityError):
        command_bus.send(Join(1, "Bob"))

    assert made.rows() == [(1, "Ada")]


def test_writes_count_rows(new_application: NewApplication) -> None:
    """A write returns the number of rows that it matched, or nothing."""
    made = new_application(Writes)
    made.fill()
    writes = made.ecotone.get(Writes)

    assert writes.rename("x", above=1) == 2
    assert writes.rename("x", above=1) == 2
    assert writes.rename("y", 99) == 0
    assert writes.rename("z") == 3
    assert writes.clear() is None  # type: ignore[func-returns-value]
    assert made.db.session.execute(made.table.select()).all() == []


def test_returning_is_read_or_counted(new_application: NewApplication) -> None:
    """INSERT … RETURNING is a query for its values, and a write for their number."""
    made = new_application(Writes)
    writes = made.ecotone.get(Writes)

    assert writes.add(7, "Ada") == 7
    assert writes.add_counted(8, "Bob") == 1
    made.db.session.commit()
    assert made.rows() == [(7, "Ada"), (8, "Bob")]


def test_sql_sees_pending_changes_of_the_session(
    new_application: NewApplication,
) -> None:
    """What was added to the session, and not flushed yet, is found."""
    made = new_application(People)

    class Entry:
        def __init__(self, id: int, name: str) -> None:
            self.id, self.name = id, name

    made.db.Model.registry.map_imperatively(Entry, made.table)
    people = made.ecotone.get(People)
    made.db.session.add(Entry(1, "Ada"))
    assert people.all() == [Person(1, "Ada")]

    with made.db.session.no_autoflush:
        made.db.session.add(Entry(2, "Bob"))
        assert people.count() == 1

    made.db.session.rollback()


def test_one_interface_mixes_markers(new_application: NewApplication) -> None:
    """SQL and messages stand in one Protocol, which is a service by its type."""

    @command_handler("people.add_and_greet")
    def add_and_greet(name: str, everything: Everything) -> str:
        everything.add(1, name)
        return everything.greet(everything.name(1) or "")

    made = new_application(Everything, greeting, add_and_greet)

    assert command_bus.send_with_routing("people.add_and_greet", "Ada") == "Hello, Ada!"
    assert made.ecotone.get(Everything).name(id=1) == "Ada"
    assert made.ecotone.service(Everything) is made.ecotone.get(Everything)


def test_query_handler_uses_an_interface(new_application: NewApplication) -> None:
    """A query handler gets the interface as a service."""

    @query_handler("people.names")
    def names(people: t.Annotated[People, Reference()]) -> list[str]:
        return people.names()

    made = new_application(People, names)
    made.fill()
    assert query_bus.send_with_routing("people.names") == ["Ada", "Bob", "Cy"]


@pytest.mark.parametrize("fails", [False, True])
def test_bind_key_chooses_a_database(
    new_application: NewApplication, second_database_url: str, fails: bool
) -> None:
    """SQL with a bind key goes there, in the unit of work of the command."""
    binds = {"archive": second_database_url}
    made = new_application(People, Elsewhere, archive, binds=binds)

    if fails:
        with pytest.raises(LookupError):
            command_bus.send(Archive(1, fails=True))
    else:
        command_bus.send(Archive(1))

    assert made.rows() == ([] if fails else [(1, "here")])
    assert made.rows("archive") == ([] if fails else [(1, "there")])
    assert list(made.ecotone.get(Elsewhere).names()) == ([] if fails else ["there"])


def test_flow_test_without_a_database_says_what_to_do() -> None:
    """SQL in a flow test fails at the call, and the error offers a fake."""
    flow = flow_testing([People, join])

    with pytest.raises(ConfigurationError, match=r"People\.add .*services="):
        flow.send_command(Join(1, "Ada"))


class FakePeople:
    def __init__(self) -> None:
        self.found: dict[int, str] = {}

    def add(self, id: int, name: str) -> None:
        self.found[id] = name

    def count(self) -> int:
        return len(self.found)


def test_flow_test_takes_a_fake() -> None:
    """A service of the interface's type stands in for it."""
    fake = FakePeople()
    flow = flow_testing([People, join], services={People: fake})
    flow.send_command(Join(1, "Ada"))

    assert fake.found == {1: "Ada"}
    assert flow.gateway(People) is fake


def test_application_may_provide_an_interface_itself(sqlite_url: str) -> None:
    """A service that the application registers wins over what SQL would make."""
    fake = FakePeople()
    made = Application(sqlite_url, People, join, services={People: lambda: fake})

    with made.app.app_context():
        assert command_bus.send(Join(1, "Ada")) == 1

    assert fake.found == {1: "Ada"}
