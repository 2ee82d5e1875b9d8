"""What a query returns: the return annotation says it."""

from __future__ import annotations

import collections.abc
import datetime
import json
import typing as t
import uuid
from dataclasses import dataclass
from decimal import Decimal

import attrs
import msgspec
import pydantic
import pytest

from flask_ecotone import converter
from flask_ecotone import FetchMode
from flask_ecotone import sql_query
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import MessageDeliveryError
from flask_ecotone.errors import MessagingError

from .conftest import NewApplication
from .people import ADA_BALANCE
from .people import ADA_BORN
from .people import ADA_SEEN
from .people import ADA_TOKEN
from .people import People
from .people import Person
from .people import Role

ALL = "SELECT id, name FROM person ORDER BY id"
ONE = "SELECT id, name FROM person WHERE id = :id"
WHOLE = "SELECT * FROM person WHERE id = 1"


@attrs.define
class AttrsPerson:
    id: int
    name: str


class StructPerson(msgspec.Struct):
    id: int
    name: str


class ModelPerson(pydantic.BaseModel):
    id: int
    name: str


class DictPerson(t.TypedDict):
    id: int
    name: str


class TuplePerson(t.NamedTuple):
    name: str
    id: int


@dataclass
class WholePerson:
    id: int
    role: Role
    is_active: bool
    born: datetime.date
    seen: datetime.datetime
    balance: Decimal
    score: float
    token: uuid.UUID
    tags: list[str]


@dataclass
class Initial:
    letter: str


@dataclass
class Card:
    id: int
    name: Initial


@converter
def initial_of(name: str) -> Initial:
    return Initial(name[0])


class Badge:
    def __init__(self, text: str) -> None:
        self.text = text


@converter
def badge_of(row: dict[str, t.Any]) -> Badge:
    return Badge(f"{row['id']} {row['name']}")


class Rows(t.Protocol):
    @sql_query(ALL)
    def people(self) -> list[Person]: ...
    @sql_query(ALL)
    def sequence(self) -> collections.abc.Sequence[Person]: ...
    @sql_query(ALL)
    def tuple_of(self) -> tuple[Person, ...]: ...
    @sql_query(ALL)
    def set_of(self) -> set[Person]: ...
    @sql_query(ALL)
    def attrs(self) -> list[AttrsPerson]: ...
    @sql_query(ALL)
    def pydantic(self) -> list[ModelPerson]: ...
    @sql_query(ALL)
    def typed_dicts(self) -> list[DictPerson]: ...
    @sql_query(ALL)
    def named_tuples(self) -> list[TuplePerson]: ...
    @sql_query(ALL)
    def tuples(self) -> list[tuple[int, str]]: ...
    @sql_query(ALL)
    def dicts(self) -> list[dict[str, t.Any]]: ...
    @sql_query(ALL)
    def plain_list(self) -> list: ...  # type: ignore[type-arg]
    @sql_query(ALL)
    def anything(self) -> t.Any: ...
    @sql_query(ALL, fetch=FetchMode.FIRST_COLUMN)
    def first_column(self) -> list[t.Any]: ...
    @sql_query("SELECT name FROM person ORDER BY id")
    def names(self) -> list[str]: ...
    @sql_query("SELECT role FROM person ORDER BY id")
    def roles(self) -> list[Role | None]: ...


class Single(t.Protocol):
    @sql_query(ONE)
    def person(self, id: int) -> Person: ...
    @sql_query(ONE)
    def maybe(self, id: int) -> Person | None: ...
    @sql_query(ONE)
    def row(self, id: int) -> dict[str, t.Any]: ...
    @sql_query(ONE)
    def pair(self, id: int) -> tuple[int, str]: ...
    @sql_query("SELECT name FROM person WHERE id = :id")
    def name(self, id: int) -> str: ...
    @sql_query("SELECT name FROM person WHERE id = :id")
    def maybe_name(self, id: int) -> str | None: ...
    @sql_query("SELECT role FROM person WHERE id = :id")
    def role(self, id: int) -> Role: ...
    @sql_query("SELECT role FROM person WHERE id = :id")
    def maybe_role(self, id: int) -> Role | None: ...


class Typed(t.Protocol):
    @sql_query(WHOLE)
    def whole(self) -> WholePerson: ...
    @sql_query("SELECT SUM(id) FROM person")
    def sum(self) -> int: ...
    @sql_query("SELECT AVG(id) FROM person")
    def average(self) -> float: ...
    @sql_query("SELECT balance FROM person WHERE id = 1")
    def balance(self) -> Decimal: ...
    @sql_query("SELECT seen FROM person WHERE id = 1")
    def seen(self) -> datetime.datetime: ...
    @sql_query("SELECT born FROM person WHERE id = 1")
    def born(self) -> datetime.date: ...
    @sql_query("SELECT token FROM person WHERE id = 1")
    def token(self) -> uuid.UUID: ...
    @sql_query("SELECT is_active FROM person WHERE id = 1")
    def is_active(self) -> bool: ...
    @sql_query("SELECT tags FROM person WHERE id = 1", fetch=FetchMode.SCALAR)
    def tags(self) -> list[str]: ...
    @sql_query("SELECT 1 WHERE 1 = 1")
    def one(self) -> int: ...


class Converted(t.Protocol):
    @sql_query("SELECT name FROM person ORDER BY id")
    def initials(self) -> list[Initial]: ...
    @sql_query(ALL)
    def cards(self) -> list[Card]: ...
    @sql_query(ALL)
    def badges(self) -> list[Badge]: ...


class Lazy(t.Protocol):
    @sql_query(ALL)
    def iterator(self) -> collections.abc.Iterator[Person]: ...
    @sql_query(ALL)
    def iterable(self) -> collections.abc.Iterable[Person]: ...
    @sql_query(ALL)
    def generator(self) -> collections.abc.Generator[Person, None, None]: ...
    @sql_query("SELECT name FROM person ORDER BY id")
    def names(self) -> collections.abc.Iterator[str]: ...
    @sql_query(ALL, fetch=FetchMode.ITERATE)
    def anything(self) -> t.Any: ...
    @sql_query(ALL, fetch=FetchMode.ROWS)
    def listed(self) -> collections.abc.Iterable[Person]: ...


class AsJson(t.Protocol):
    @sql_query(ALL, reply_media_type="application/json")
    def people(self) -> str: ...
    @sql_query(ONE, fetch=FetchMode.FIRST_ROW, reply_media_type="application/json")
    def person(self, id: int) -> str | None: ...
    @sql_query(
        "SELECT name FROM person ORDER BY id",
        fetch=FetchMode.FIRST_COLUMN,
        reply_media_type="application/json",
    )
    def names(self) -> str: ...


class Odd(t.Protocol):
    @sql_query("SELECT id, name, id FROM person")
    def twice(self) -> list[dict[str, t.Any]]: ...
    @sql_query("UPDATE person SET name = 'x'")
    def no_query(self) -> list[Person]: ...
    @sql_query("SELECT id FROM person")
    def too_few(self) -> list[Person]: ...
    @sql_query("SELECT name FROM person")
    def numbers(self) -> list[int]: ...


LISTED = [(1, "Ada"), (2, "Bob"), (3, "Cy")]
PEOPLE = [Person(id, name) for id, name in LISTED]


def test_rows_become_what_the_annotation_lists(new_application: NewApplication) -> None:
    """A list of any class with fields is made of all rows."""
    made = new_application(Rows)
    made.fill()
    rows = made.ecotone.get(Rows)

    assert rows.people() == PEOPLE
    assert rows.sequence() == PEOPLE
    assert rows.tuple_of() == tuple(PEOPLE)
    assert rows.set_of() == set(PEOPLE)
    assert rows.attrs() == [AttrsPerson(*row) for row in LISTED]
    assert rows.pydantic() == [ModelPerson(id=i, name=n) for i, n in LISTED]
    assert rows.named_tuples() == [TuplePerson(n, i) for i, n in LISTED]
    assert rows.tuples() == LISTED


def test_rows_become_dicts(new_application: NewApplication) -> None:
    """Without a class for them rows are dicts by column name."""
    made = new_application(Rows)
    made.fill()
    rows = made.ecotone.get(Rows)
    expected = [{"id": i, "name": n} for i, n in LISTED]

    assert rows.dicts() == expected
    assert rows.plain_list() == expected
    assert rows.anything() == expected
    assert rows.typed_dicts() == expected


def test_first_column_becomes_a_list_of_values(
    new_application: NewApplication,
) -> None:
    """A list of numbers or text is made of the first column."""
    made = new_application(Rows)
    made.fill()
    rows = made.ecotone.get(Rows)

    assert rows.names() == ["Ada", "Bob", "Cy"]
    assert rows.roles() == [Role.ADMIN, None, None]
    assert rows.first_column() == [1, 2, 3]


def test_no_rows_are_an_empty_list(new_application: NewApplication) -> None:
    """A list is empty where nothing is found."""
    rows = new_application(Rows).ecotone.get(Rows)
    assert rows.people() == []
    assert rows.names() == []
    assert rows.tuple_of() == ()


def test_first_row_becomes_one_object(new_application: NewApplication) -> None:
    """One class, dict or tuple is made of the first row."""
    made = new_application(Single)
    made.fill()
    single = made.ecotone.get(Single)

    assert single.person(2) == Person(2, "Bob")
    assert single.maybe(2) == Person(2, "Bob")
    assert single.row(2) == {"id": 2, "name": "Bob"}
    assert single.pair(2) == (2, "Bob")


def test_scalar_is_the_first_column_of_the_first_row(
    new_application: NewApplication,
) -> None:
    """A number, text or enum is one value."""
    made = new_application(Single)
    made.fill()
    single = made.ecotone.get(Single)

    assert single.name(3) == "Cy"
    assert single.maybe_name(id=3) == "Cy"
    assert single.role(1) is Role.ADMIN


def test_nothing_found_is_none_where_that_is_annotated(
    new_application: NewApplication,
) -> None:
    """No row, and NULL for a value, are None for an optional result."""
    made = new_application(Single)
    made.fill()
    single = made.ecotone.get(Single)

    assert single.maybe(9) is None
    assert single.maybe_name(9) is None
    assert single.maybe_role(2) is None


def test_nothing_found_is_an_error_where_a_result_is_promised(
    new_application: NewApplication,
) -> None:
    """The error names the method, where it is and what to annotate."""
    made = new_application(Single)
    made.fill()
    single = made.ecotone.get(Single)

    with pytest.raises(MessageDeliveryError, match=r"Single\.person \(.+:\d+\)") as row:
        single.person(9)

    assert "had no row" in str(row.value)
    assert "'-> Person | None'" in str(row.value)

    with pytest.raises(MessageDeliveryError, match="promises str, .* had no row"):
        single.name(9)

    with pytest.raises(MessageDeliveryError, match="promises Role, .* was NULL"):
        single.role(2)


def test_columns_become_the_types_of_fields(new_application: NewApplication) -> None:
    """Every database gives the same values, JSON columns included."""
    made = new_application(Typed)
    made.fill()

    assert made.ecotone.get(Typed).whole() == WholePerson(
        id=1,
        role=Role.ADMIN,
        is_active=True,
        born=ADA_BORN,
        seen=ADA_SEEN,
        balance=ADA_BALANCE,
        score=1.5,
        token=ADA_TOKEN,
        tags=["maths", "poetry"],
    )


def test_values_have_the_annotated_type(new_application: NewApplication) -> None:
    """Sums, averages, dates, decimals and UUIDs are exactly of the type annotated."""
    made = new_application(Typed)
    made.fill()
    typed = made.ecotone.get(Typed)
    found = {
        name: getattr(typed, name)()
        for name in ("sum", "average", "balance", "seen", "born", "token", "is_active")
    }

    assert found == {
        "sum": 6,
        "average": 2.0,
        "balance": ADA_BALANCE,
        "seen": ADA_SEEN,
        "born": ADA_BORN,
        "token": ADA_TOKEN,
        "is_active": True,
    }
    assert [type(value) for value in found.values()] == [
        int,
        float,
        Decimal,
        datetime.datetime,
        datetime.date,
        uuid.UUID,
        bool,
    ]
    assert typed.tags() == ["maths", "poetry"]


def test_own_converters_make_results(new_application: NewApplication) -> None:
    """A converter from text makes a value, also as a field, and one from dict a row."""
    made = new_application(Converted, initial_of, badge_of)
    made.fill()
    converted = made.ecotone.get(Converted)

    assert converted.initials() == [Initial("A"), Initial("B"), Initial("C")]
    assert converted.cards()[1] == Card(2, Initial("B"))
    assert [badge.text for badge in converted.badges()] == ["1 Ada", "2 Bob", "3 Cy"]


def test_iterators_yield_converted_rows(new_application: NewApplication) -> None:
    """Iterators, iterables and generators yield items of their type."""
    made = new_application(Lazy)
    made.fill()
    lazy = made.ecotone.get(Lazy)

    assert list(lazy.iterator()) == PEOPLE
    assert list(lazy.iterable()) == PEOPLE
    assert list(lazy.generator()) == PEOPLE
    assert list(lazy.names()) == ["Ada", "Bob", "Cy"]
    assert next(lazy.anything()) == {"id": 1, "name": "Ada"}
    assert lazy.listed() == PEOPLE


def test_iterators_convert_when_asked(new_application: NewApplication) -> None:
    """A row that can't be converted raises when it is reached, not before."""

    made = new_application(Lazy)
    made.fill()
    nameless = made.table.update().values(name=None).where(made.table.c.id == 2)
    made.db.session.execute(nameless)
    people = made.ecotone.get(Lazy).iterator()

    assert next(people) == Person(1, "Ada")

    with pytest.raises(ConversionError, match=r"Lazy\.iterator"):
        next(people)


def test_other_statements_run_while_rows_are_read(
    new_application: NewApplication,
) -> None:
    """An iterator survives queries and writes on the same session."""
    made = new_application(Lazy, People)
    made.fill()
    people = made.ecotone.get(People)
    seen = []

    for person in made.ecotone.get(Lazy).iterator():
        seen.append(person.id)
        people.add(person.id + 10, "New")
        assert people.count() == 3 + len(seen)

    assert seen == [1, 2, 3]


def test_rows_end_with_their_transaction(new_application: NewApplication) -> None:
    """Reading on after a commit is refused, on every database alike."""
    made = new_application(Lazy)
    made.fill()
    people = made.ecotone.get(Lazy).iterator()
    assert next(people) == Person(1, "Ada")
    made.db.session.commit()

    with pytest.raises(MessagingError, match="the transaction ended"):
        next(people)


def test_closing_an_iterator_frees_its_cursor(new_application: NewApplication) -> None:
    """A generator that is closed, begun or not, leaves nothing open."""
    made = new_application(Lazy, People)
    made.fill()
    lazy = made.ecotone.get(Lazy)
    begun, fresh = lazy.generator(), lazy.generator()
    next(begun)
    begun.close()
    fresh.close()

    assert list(begun) == list(fresh) == []
    made.db.session.rollback()
    assert made.db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    made.db.drop_all()


def test_results_as_json(new_application: NewApplication) -> None:
    """With a media type the result is text in that media type."""
    made = new_application(AsJson)
    made.fill()
    found = made.ecotone.get(AsJson)

    assert json.loads(found.people()) == [{"id": i, "name": n} for i, n in LISTED]
    assert json.loads(found.person(1) or "") == {"id": 1, "name": "Ada"}
    assert found.person(9) is None
    assert json.loads(found.names()) == ["Ada", "Bob", "Cy"]


def test_two_columns_of_one_name_are_refused(new_application: NewApplication) -> None:
    """No column hides another one silently."""
    odd = new_application(Odd).ecotone.get(Odd)

    with pytest.raises(ConversionError, match="two columns named 'id'.*AS"):
        odd.twice()


def test_query_without_rows_is_refused(new_application: NewApplication) -> None:
    """A query whose SQL only writes says which marker it wants."""
    odd = new_application(Odd).ecotone.get(Odd)

    with pytest.raises(MessagingError, match="@sql_write"):
        odd.no_query()


def test_failed_conversion_names_the_method(new_application: NewApplication) -> None:
    """The error says whose result can't be made, and of what."""
    made = new_application(Odd)
    made.fill()
    odd = made.ecotone.get(Odd)

    with pytest.raises(ConversionError, match=r"Odd\.too_few .*`name`"):
        odd.too_few()

    with pytest.raises(ConversionError, match=r"Odd\.numbers .*int"):
        odd.numbers()
