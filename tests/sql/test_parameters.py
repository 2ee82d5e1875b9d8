"""From arguments to the parameters of SQL: always bound, never part of the text."""

from __future__ import annotations

import datetime
import enum
import json
import typing as t
import uuid
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from decimal import Decimal

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import converter
from flask_ecotone import FetchMode
from flask_ecotone import sql_param
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone import SqlParam
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import MessagingError

from .conftest import NewApplication
from .people import ADA_BALANCE
from .people import ADA_BORN
from .people import ADA_SEEN
from .people import ADA_TOKEN
from .people import People
from .people import Role


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class PersonId:
    value: int


@converter
def person_id_to_int(id: PersonId) -> int:
    return id.value


@dataclass
class Tag:
    label: str


@dataclass
class Page:
    limit: int
    offset: int = 0
    words: list[str] = field(default_factory=list)

    def doubled(self, number: int) -> int:
        return number * 2


class Clock:
    def now(self) -> datetime.datetime:
        return ADA_SEEN


class ByValue(t.Protocol):
    @sql_query("SELECT id FROM person WHERE role = :role")
    def of_role(self, role: Role) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id = :level")
    def of_level(self, level: Level) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE born = :born")
    def of_born(self, born: datetime.date) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE seen = :seen")
    def of_seen(self, seen: datetime.datetime) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE balance = :balance")
    def of_balance(self, balance: Decimal) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE token = :token")
    def of_token(self, token: uuid.UUID) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE is_active = :is_active")
    def of_active(self, is_active: bool) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id = :id OR id = :id + 1 ORDER BY id")
    def of_id(self, id: PersonId) -> list[int]: ...
    @sql_write(
        "INSERT INTO person (id, name, role, is_active, born, seen, balance, score,"
        " token) VALUES (:id, :name, :role, :is_active, :born, :seen, :balance, :score,"
        " :token)"
    )
    def add(
        self,
        id: PersonId,
        name: str | None,
        role: Role | None,
        is_active: bool | None,
        born: datetime.date | None,
        seen: datetime.datetime | None,
        balance: Decimal | None,
        score: float | None,
        token: uuid.UUID | None,
    ) -> None: ...


class Lists(t.Protocol):
    @sql_query("SELECT id FROM person WHERE id IN (:ids) ORDER BY id")
    def enclosed(self, ids: Iterable[int]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id IN :ids ORDER BY id")
    def bare(self, ids: Sequence[int]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id NOT IN ( :ids ) ORDER BY id")
    def excluded(self, ids: list[int]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE name IN (:names) ORDER BY id")
    def named(self, names: list[str]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE name NOT IN (:names) ORDER BY id")
    def not_named(self, names: list[str]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE role IN (:roles)")
    def with_roles(self, roles: set[Role]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE token IN (:tokens)")
    def with_tokens(self, tokens: list[uuid.UUID]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id IN (:ids) ORDER BY id")
    def with_ids(self, ids: tuple[PersonId, ...]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id IN (:(page.words)) OR id IN (:ids)")
    def both(self, page: Page, ids: list[int]) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id = ANY(:ids) AND id = ANY(:(ids)::int[])")
    def arrays(self, ids: list[int]) -> list[int]: ...


@sql_param("seen", expression=lambda reference: reference(Clock).now())
class Computed(t.Protocol):
    @sql_write("INSERT INTO person (id, name, seen) VALUES (:id, :name, :seen)")
    def add(
        self,
        id: int,
        title: t.Annotated[str, SqlParam("name", expression=lambda value: f"{value}!")],
    ) -> None: ...

    @sql_param("name", expression="first ~ ' ' ~ last")
    @sql_param("id", expression=lambda first, last: len(first) + len(last))
    @sql_write("INSERT INTO person (id, name, seen) VALUES (:id, :name, :seen)")
    def join(self, first: str, last: str) -> None: ...

    @sql_query("SELECT name FROM person WHERE name = :name")
    def upper(
        self, name: t.Annotated[str, SqlParam(expression="payload.upper()")]
    ) -> str | None: ...

    @sql_query("SELECT name FROM person WHERE name = :(parameter('OWNER'))")
    def owner(self) -> str | None: ...

    @sql_query("SELECT COUNT(*) FROM person WHERE seen = :seen")
    def seen_now(self, unused: object = None) -> int: ...


class Inline(t.Protocol):
    @sql_query(
        "SELECT id FROM person ORDER BY id LIMIT :(page.limit) OFFSET :(page.offset)"
    )
    def page(self, page: Page) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id = :(page.doubled((offset) + 1))")
    def called(self, page: Page, offset: int) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE name = :('A(' ~ ')' if no else \"Ada\")")
    def quoted(self, no: bool) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE id = :(page.missing)")
    def missing(self, page: Page) -> list[int]: ...
    @sql_query("SELECT id FROM person WHERE name = :(page.__class__.__mro__)")
    def private(self, page: Page) -> list[int]: ...


class Json(t.Protocol):
    @sql_write("UPDATE person SET tags = :tags WHERE id = :id")
    def tag(
        self,
        id: int,
        tags: t.Annotated[t.Any, SqlParam(convert_to="application/json")],
    ) -> int: ...

    @sql_param("tags", expression="[label, label]", convert_to="application/json")
    @sql_write("UPDATE person SET tags = :tags WHERE id = :id")
    def tag_twice(self, id: int, label: str) -> None: ...

    @sql_query("SELECT tags FROM person WHERE id = :id", fetch=FetchMode.SCALAR)
    def tags(self, id: int) -> list[Tag] | None: ...

    @sql_query("SELECT tags FROM person WHERE id = :id")
    def text(self, id: int) -> str | None: ...


class Wrong(t.Protocol):
    @sql_query("SELECT name FROM person WHERE name = :value")
    def find(self, value: t.Any) -> list[str]: ...


def test_values_arrive_as_columns_of_models_store_them(
    new_application: NewApplication,
) -> None:
    """Enums, dates, decimals and UUIDs find what SQLAlchemy's types stored."""
    made = new_application(ByValue, person_id_to_int)
    made.fill()
    people = made.ecotone.get(ByValue)

    assert people.of_role(Role.ADMIN) == [1]
    assert people.of_role(Role.GUEST) == []
    assert people.of_level(Level.HIGH) == [2]
    assert people.of_born(ADA_BORN) == [1]
    assert people.of_seen(ADA_SEEN) == [1]
    assert people.of_balance(ADA_BALANCE) == [1]
    assert people.of_token(ADA_TOKEN) == [1]
    assert people.of_active(True) == [1]
    assert people.of_id(PersonId(2)) == [2, 3]


def test_written_values_are_read_by_sqlalchemy(new_application: NewApplication) -> None:
    """What is written with SQL has the same value for a typed column, NULL included."""
    made = new_application(ByValue, person_id_to_int)
    people = made.ecotone.get(ByValue)
    values = ("Ada", Role.ADMIN, True, ADA_BORN, ADA_SEEN, ADA_BALANCE, 1.5, ADA_TOKEN)
    people.add(PersonId(1), *values)
    people.add(PersonId(2), None, None, None, None, None, None, None, None)
    found = made.db.session.execute(sa.select(made.table).order_by("id")).all()

    assert found[0][:-1] == (1, "Ada", "admin", *values[2:])
    assert found[1] == (2, *[None] * 9)


def test_lists_expand_in_in(new_application: NewApplication) -> None:
    """A list of any kind and length works in IN, with and without parentheses."""
    made = new_application(Lists, person_id_to_int)
    made.fill()
    lists = made.ecotone.get(Lists)

    assert lists.enclosed([1, 3, 99]) == [1, 3]
    assert lists.enclosed((2,)) == [2]
    assert lists.enclosed({3, 2}) == [2, 3]
    assert lists.enclosed({1: "a", 2: "b"}.keys()) == [1, 2]
    assert lists.enclosed(range(2, 9)) == [2, 3]
    assert lists.bare([2, 1]) == [1, 2]
    assert lists.excluded([1]) == [2, 3]
    assert lists.named(["Cy", "Ada"]) == [1, 3]
    assert lists.with_roles({Role.ADMIN, Role.GUEST}) == [1]
    assert lists.with_tokens([ADA_TOKEN]) == [1]
    assert lists.with_ids((PersonId(1), PersonId(2))) == [1, 2]
    assert lists.both(Page(1, words=t.cast("list[str]", [3])), [3]) == [3]


def test_empty_lists_match_nothing(new_application: NewApplication) -> None:
    """IN an empty list is false and NOT IN is true, whatever the column's type."""
    made = new_application(Lists, person_id_to_int)
    made.fill()
    lists = made.ecotone.get(Lists)

    assert lists.enclosed([]) == lists.bare([]) == []
    assert lists.excluded([]) == [1, 2, 3]
    assert lists.named([]) == []
    assert lists.not_named([]) == [1, 2, 3]
    assert lists.with_roles(set()) == []
    assert lists.with_tokens([]) == []
    assert lists.with_ids(()) == []


def test_arrays_of_postgresql(postgres_url: str) -> None:
    """In ANY(), or before a cast, a list is an array."""
    from .people import Application

    made = Application(postgres_url, Lists, person_id_to_int)

    with made.app.app_context():
        made.db.create_all()
        made.fill()
        assert sorted(made.ecotone.get(Lists).arrays([1, 3])) == [1, 3]
        assert made.ecotone.get(Lists).arrays([]) == []


def test_expressions_compute_parameters(new_application: NewApplication) -> None:
    """Parameters, methods and interfaces compute values, in functions and text."""
    made = new_application(Computed)
    computed = made.ecotone.get(Computed)
    computed.add(1, "Ada")
    computed.join("Bo", "Li")

    assert made.db.session.execute(
        sa.select(made.table.c["id", "name", "seen"]).order_by("id")
    ).all() == [(1, "Ada!", ADA_SEEN), (4, "Bo Li", ADA_SEEN)]
    assert computed.upper("bo li") in (None, "Bo Li")
    assert computed.seen_now() == 2


def test_expressions_read_configuration(new_application: NewApplication) -> None:
    """parameter() reads what the application is configured with."""
    made = new_application(Computed)
    made.fill()
    made.app.config["OWNER"] = "Bob"
    assert made.ecotone.get(Computed).owner() == "Bob"


def test_expressions_in_sql(new_application: NewApplication) -> None:
    """:(…) reads attributes and calls, with nested parentheses and quotes."""
    made = new_application(Inline)
    made.fill()
    inline = made.ecotone.get(Inline)

    assert inline.page(Page(2)) == [1, 2]
    assert inline.page(Page(limit=5, offset=1)) == [2, 3]
    assert inline.called(Page(1), 0) == [2]
    assert inline.quoted(no=False) == [1]
    assert inline.quoted(no=True) == []


def test_expressions_are_sandboxed(new_application: NewApplication) -> None:
    """An expression reaches no private attribute, and says what it can't read."""
    inline = new_application(Inline).ecotone.get(Inline)

    with pytest.raises(MessagingError, match=r"Inline\.private .*__class__"):
        inline.private(Page(1))

    with pytest.raises(MessagingError, match=r"Inline\.missing .*missing"):
        inline.missing(Page(1))


def test_convert_to_json(new_application: NewApplication) -> None:
    """Objects and lists are stored as JSON, None as NULL, and are read back."""
    made = new_application(Json)
    made.fill()
    people = made.ecotone.get(Json)

    assert people.tag(2, [Tag("a"), Tag("b")]) == 1
    assert people.tags(2) == [Tag("a"), Tag("b")]
    assert json.loads(people.text(2) or "") == [{"label": "a"}, {"label": "b"}]

    people.tag_twice(3, "it's")
    assert json.loads(people.text(3) or "") == ["it's", "it's"]

    people.tag(2, None)
    assert people.tags(2) is None
    assert people.text(2) is None


@pytest.mark.parametrize("value", [Tag("a"), {"a": 1}, [Tag("a")]], ids=repr)
def test_objects_without_a_column_are_refused(
    new_application: NewApplication, value: t.Any
) -> None:
    """An object is no value of a column; the error names method and parameter."""
    wrong = new_application(Wrong).ecotone.get(Wrong)

    with pytest.raises(ConversionError, match="application/json") as raised:
        wrong.find(value)

    assert "Wrong.find" in str(raised.value)
    assert "parameter 'value'" in str(raised.value)


def test_lists_of_lists_are_refused(new_application: NewApplication) -> None:
    """A list holds values only."""
    with pytest.raises(ConversionError, match="list of lists"):
        new_application(Wrong).ecotone.get(Wrong).find([[1], [2]])


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE person; --",
        "\\'; DROP TABLE person; --",
        "\\",
        '" OR ""="',
        ":id %s %(id)s ? $1 {id} {{ id }} :(id)",
        "Robert'); DROP TABLE person;--",
        "\u02bc\uff07 %27 /* */ -- #",
    ],
)
def test_values_are_never_sql(new_application: NewApplication, text: str) -> None:
    """Whatever a value holds is stored and found as it is."""
    made = new_application(People, Wrong)
    made.fill()
    people, wrong = made.ecotone.get(People), made.ecotone.get(Wrong)
    people.add(4, text)

    assert wrong.find(text) == [text]
    assert people.names() == ["Ada", "Bob", "Cy", text]
    assert people.count() == 4


def test_text_that_is_like_an_injection_in_an_expression(
    new_application: NewApplication,
) -> None:
    """The result of an expression is bound like any other value."""
    made = new_application(Json)
    made.fill()
    made.ecotone.get(Json).tag_twice(1, "'), (99, 'x")
    assert len(made.rows()) == 3


def test_services_in_expressions_are_those_of_the_message(
    new_application: NewApplication,
) -> None:
    """Inside a handler reference() finds what the handler itself would get."""

    @command_handler("join")
    def join(names: list[str], people: Computed) -> None:
        people.join(*names)

    made = new_application(Computed, join)
    command_bus.send_with_routing("join", ["Ada", "L"])
    assert made.rows() == [(4, "Ada L")]
