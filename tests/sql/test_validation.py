"""What can't work is refused when the system is compiled, with the place and a fix."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import business_method
from flask_ecotone import Ecotone
from flask_ecotone import FetchMode
from flask_ecotone import sql_param
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone import SqlParam
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import EcotoneError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.testing import flow_testing

from .people import Application
from .people import People
from .people import Person

ALL = "SELECT id, name FROM person"


@dataclass
class Page:
    limit: int


class Plain:
    """Nothing makes it of a row."""


def method(
    marker: t.Any, annotations: dict[str, t.Any], *markers: t.Any
) -> Callable[[], type]:
    """A Protocol with one method of the given annotations."""

    def make() -> type:
        names = [name for name in annotations if name != "return"]
        source = f"def run(self{''.join(f', {name}' for name in names)}): ..."
        made: dict[str, t.Any] = {}
        exec(source, made)
        run = made["run"]
        run.__annotations__ = dict(annotations)
        run.__qualname__ = "Interface.run"

        for mark in (marker, *markers):
            mark(run)

        return type("Interface", (t.Protocol,), {"run": run})  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (method(sql_write("DELETE FROM person"), {}), "doesn't say what it returns"),
        (
            method(sql_write("DELETE FROM person"), {"return": str}),
            r"returns str\. .* returns None, or int .* Did you mean @sql_query",
        ),
        (method(sql_write("DELETE FROM person"), {"return": bool}), "returns bool"),
        (
            method(sql_write("DELETE FROM person"), {"return": int | None}),
            r"returns int \| None",
        ),
        (method(sql_query(ALL), {}), "doesn't say what it returns"),
        (method(sql_query(ALL), {"return": None}), "a query that returns nothing"),
        (
            method(sql_query(ALL), {"return": "list[Persn]"}),
            r"'list\[Persn\]' can't be resolved",
        ),
        (method(sql_query(ALL), {"return": list[Plain]}), "a dataclass or another"),
        (method(sql_query(ALL), {"return": Plain}), "@converter from dict"),
    ],
)
def test_return_annotation_is_checked(make: Callable[[], type], reason: str) -> None:
    """Writes return None or a count, queries say what they find."""
    with pytest.raises(HandlerSignatureError, match=reason):
        flow_testing([make()])


@pytest.mark.parametrize(
    ("fetch", "returns", "fix"),
    [
        (FetchMode.ROWS, Person, r"list\[Person\]"),
        (FetchMode.ROWS, list[int], "FIRST_COLUMN"),
        (FetchMode.ROWS, int, "list"),
        (FetchMode.FIRST_COLUMN, int, "list"),
        (FetchMode.FIRST_ROW, list[Person], "ROWS"),
        (FetchMode.FIRST_ROW, int, "SCALAR"),
        (FetchMode.FIRST_ROW, Iterator[Person], "ROWS"),
        (FetchMode.SCALAR, Iterator[int], "ITERATE"),
        (FetchMode.ITERATE, list[Person], "Iterator"),
        (FetchMode.ITERATE, Person, "Iterator"),
    ],
)
def test_fetch_mode_fits_the_annotation(
    fetch: FetchMode, returns: t.Any, fix: str
) -> None:
    """A mode that can't give what is annotated is refused, with the one that can."""
    marker = sql_query(ALL, fetch=fetch)

    with pytest.raises(HandlerSignatureError, match=f"{fetch.name}.*{fix}"):
        flow_testing([method(marker, {"return": returns})()])


def test_json_is_text() -> None:
    """A method that returns JSON is annotated with str, and can't be lazy."""
    marker = sql_query(ALL, reply_media_type="application/json")

    with pytest.raises(HandlerSignatureError, match="Annotate '-> str'"):
        flow_testing([method(marker, {"return": list[Person]})()])

    lazy = sql_query(ALL, fetch=FetchMode.ITERATE, reply_media_type="application/json")

    with pytest.raises(HandlerSignatureError, match="one at a time"):
        flow_testing([method(lazy, {"return": str})()])


def test_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    """The error names the method, its file and line, and what it may have meant."""

    class Typo(t.Protocol):
        @sql_query("SELECT name FROM person WHERE id = :persn_id")
        def find(self, person_id: int) -> str: ...

    with pytest.raises(HandlerSignatureError) as raised:
        flow_testing([Typo])

    line = Typo.find.__code__.co_firstlineno
    text = str(raised.value)
    assert f"Typo.find ({__file__}:{line})" in text
    assert ":persn_id" in text
    assert "Did you mean 'person_id'?" in text


def test_unknown_name_in_an_expression_is_refused() -> None:
    """Expressions in SQL, and in markers, may use the arguments and two functions."""
    inline = method(
        sql_query("SELECT :(pge.limit)"), {"page": Page, "return": list[int]}
    )

    with pytest.raises(HandlerSignatureError, match="'pge'.* Did you mean 'page'"):
        flow_testing([inline()])

    on_method = method(
        sql_query("SELECT :limit"),
        {"page": Page, "return": list[int]},
        sql_param("limit", expression="pages.limit"),
    )

    with pytest.raises(HandlerSignatureError, match="'pages'.* Did you mean 'page'"):
        flow_testing([on_method()])

    function = method(
        sql_query("SELECT :limit"),
        {"page": Page, "return": list[int]},
        sql_param("limit", expression=lambda pages: pages.limit),
    )

    with pytest.raises(ConfigurationError, match="asks for 'pages'"):
        flow_testing([function()])

    on_parameter = method(
        sql_query("SELECT :page"),
        {
            "page": t.Annotated[Page, SqlParam(expression="page.limit")],
            "return": list[int],
        },
    )

    with pytest.raises(HandlerSignatureError, match="'page'.* payload, value"):
        flow_testing([on_parameter()])


def test_unreadable_expression_is_refused() -> None:
    """An expression that can't be parsed fails with its text."""
    made = method(sql_query("SELECT :(page.)"), {"page": Page, "return": list[int]})

    with pytest.raises(ConfigurationError, match=r"page\."):
        flow_testing([made()])


@pytest.mark.parametrize(
    "markers",
    [
        (sql_param("page", expression="1"),),
        (sql_param("other", expression="1"), sql_param("other", expression="2")),
    ],
)
def test_names_are_unique(markers: tuple[t.Any, ...]) -> None:
    """Two sources of one parameter are refused."""
    made = method(
        sql_query("SELECT :page, :other"),
        {"page": int, "other_page": int, "return": list[int]},
        *markers,
    )

    with pytest.raises(HandlerSignatureError, match="two things are called"):
        flow_testing([made()])


def test_parameters_do_not_hide_functions() -> None:
    """A parameter named like a function can't be used together with expressions."""
    made = method(sql_query("SELECT :(reference)"), {"reference": int, "return": int})

    with pytest.raises(HandlerSignatureError, match="Rename the parameter"):
        flow_testing([made()])


def test_unused_arguments_are_fine() -> None:
    """A method may take more than its SQL needs, and an interface may offer more."""
    made = method(
        sql_query("SELECT 1"),
        {"page": Page, "return": int},
        sql_param("unused", expression=lambda nothing_of_the_kind: 1),
    )
    assert flow_testing([made()]) is not None


@pytest.mark.parametrize("sql", ["", "  ", None, 1])
def test_sql_is_text(sql: t.Any) -> None:
    """A marker without SQL fails where it stands."""
    with pytest.raises(ConfigurationError, match="takes the SQL as text"):
        sql_query(sql)

    with pytest.raises(ConfigurationError, match="takes the SQL as text"):
        sql_write(sql)


def test_marker_without_parentheses_is_refused() -> None:
    """@sql_query on a method, without SQL, fails where it stands."""
    with pytest.raises(ConfigurationError, match="@sql_query was given"):

        @sql_query  # type: ignore[arg-type]
        def find() -> int: ...


def test_method_does_one_thing() -> None:
    """Two markers on one method are refused."""
    made = method(sql_query("SELECT 1"), {"return": int}, business_method("x"))

    with pytest.raises(EcotoneError, match="marked twice|nothing listens"):
        flow_testing([made()])


def test_unmarked_method_is_refused() -> None:
    """A Protocol is implemented as a whole or not at all."""

    class Half(t.Protocol):
        @sql_query("SELECT 1")
        def one(self) -> int: ...

        def two(self) -> int: ...

    with pytest.raises(HandlerSignatureError, match="two.*@sql_query or"):
        flow_testing([Half])


@pytest.mark.parametrize("wrong", [staticmethod, classmethod, property])
def test_only_plain_methods_are_implemented(wrong: t.Any) -> None:
    """What else a function can be in a class wouldn't be called as it is meant."""

    class Wrong(t.Protocol):
        @wrong
        @sql_query("SELECT 1")
        def one(cls) -> int: ...

    with pytest.raises(HandlerSignatureError, match=f"is a {wrong.__name__}"):
        flow_testing([Wrong])


def test_unknown_bind_key_is_refused(sqlite_url: str) -> None:
    """A bind key is looked up when the system is compiled."""

    class Elsewhere(t.Protocol):
        @sql_query("SELECT 1", bind="archiv")
        def one(self) -> int: ...

    made = Application(sqlite_url, Elsewhere, binds={"archive": sqlite_url})

    with made.app.app_context():
        with pytest.raises(
            ConfigurationError, match="'archiv'.*Did you mean 'archive'"
        ):
            made.ecotone.compile()


def test_application_without_a_database_is_refused() -> None:
    """SQL needs a database; the error says how to configure one."""
    app = Flask("tests.sql.none")
    ecotone = Ecotone(app, packages=[])
    ecotone.register(People)

    with app.app_context():
        with pytest.raises(ConfigurationError, match=r"requires a 'db' connection"):
            ecotone.compile()


def test_errors_come_from_compiling_in_an_application(sqlite_url: str) -> None:
    """An application is refused like a flow test."""
    app = Flask("tests.sql.wrong")
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    SQLAlchemy(app)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(method(sql_query("SELECT :x"), {"return": int})())

    with app.app_context():
        with pytest.raises(HandlerSignatureError, match="the SQL uses :x"):
            ecotone.compile()
