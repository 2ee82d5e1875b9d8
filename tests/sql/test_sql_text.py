"""What is a parameter in SQL, and what only looks like one."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_ecotone import sql_query
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.testing import flow_testing

from .conftest import NewApplication
from .people import Application

#: What SQL, SQLAlchemy, the drivers or expressions could take for something else.
TRICKY = [":", "::", ":value", "\\", "\\:", "'", "''", '"', "%", "%%", "%s", "%(", "?"]
TRICKY += ["$$", "--", "/*", "*/", ":(", "(", ")", "{", "`", "\n", "#", "x", "s"]
texts = st.lists(st.sampled_from(TRICKY) | st.text(max_size=3), max_size=12).map(
    "".join
)


def interface(sql: str) -> type:
    """A Protocol whose one method executes SQL with one value."""

    class Interface(t.Protocol):
        @sql_query(sql)
        def find(self, value: t.Any) -> dict[str, t.Any]: ...

    return Interface


def compiled(sql: str) -> None:
    """Read SQL as a flow test does: without a database."""
    flow_testing([interface(sql)])


@pytest.mark.parametrize(
    "text",
    [
        ":value",
        "::value",
        ":value:more",
        "12:30:00",
        " :(value) ",
        "100% :value %s %d ?",
        "50%(about)s %(value)s",
        ":value:%(value)s:x",
        "it''s :value",
        '":value"',
        "-- :value",
        "/* :value",
    ],
)
def test_literals_stay_as_they_are(new_application: NewApplication, text: str) -> None:
    """A literal holds colons, quotes and percent signs, and no parameters."""
    sql = f"SELECT '{text}' AS text, CAST(:value AS CHAR(5)) AS value"
    found = interface(sql)
    made = new_application(found)
    row = made.ecotone.get(found).find("given")  # type: ignore[attr-defined]

    assert row == {"text": text.replace("''", "'"), "value": "given"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT /* :none 'it isn''t */ id FROM person WHERE id = :value",
        "SELECT id -- :none, and it's :fine\nFROM person WHERE id = :value",
        "SELECT id FROM person\nWHERE id = :value -- the end: :none",
        "SELECT id /* slashes // and stars ** */ FROM person WHERE id = :value /**/",
        "SELECT id FROM person WHERE id=:value AND :value=id AND(:value)=id",
        "SELECT id FROM person WHERE id = :(value) AND id = :( value + 0 )",
        "SELECT id FROM person WHERE id =\n\t:value\n",
    ],
)
def test_comments_hold_no_parameters(new_application: NewApplication, sql: str) -> None:
    """Comments are passed over, and a parameter may be used more than once."""
    found = interface(sql)
    made = new_application(found)
    made.fill()
    assert made.ecotone.get(found).find(2) == {"id": 2}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT :value::int AS value",
        "SELECT :value\\:\\:int AS value",
        "SELECT 2 AS value WHERE $$:no$$!=$x$ $$ :no $x$ AND $$2$$=:value::text",
        "SELECT :value :: int AS value, $$ :no 'quote $$ AS a, $x$ :no $$ $x$ AS b",
        "SELECT (:(value + 0)::int)::int AS value, E'it\\'s :no' AS a, U&':no' AS c",
        "SELECT /* /* nested */ :no */ (ARRAY[1, 2, 3])[:value::int] AS value",
        "SELECT (ARRAY[1, 2])[1:2] AS a, '\\' AS b, ':no\\' AS c, :value::int AS value",
        "SELECT '{\"a\": {\"b\": 1}}'::jsonb #> '{a,b}' AS a, :value::int AS value",
    ],
)
def test_syntax_of_postgresql(postgres_url: str, sql: str) -> None:
    """Casts, dollar quotes, escape strings, slices and nested comments are read."""
    found = interface(sql)
    made = Application(postgres_url, found)

    with made.app.app_context():
        row = made.ecotone.get(found).find(2)  # type: ignore[attr-defined]

    assert row["value"] == 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'it\\'s :no' AS a, :value AS value",
        'SELECT "it\\"s :no" AS a, :value AS value',
        "SELECT 1 AS `:no`, :value AS value # it's :fine",
        "SELECT 4--:value AS a, 2 AS value",
        "SELECT 2 AS value -- :no",
    ],
)
def test_syntax_of_mariadb(mariadb_url: str, sql: str) -> None:
    """Backslashes, backticks and its comments are read."""
    found = interface(sql)
    made = Application(mariadb_url, found)

    with made.app.app_context():
        row = made.ecotone.get(found).find(2)  # type: ignore[attr-defined]

    assert row["value"] == 2


@settings(max_examples=80, deadline=None)
@given(literal=texts, comment=texts, name=texts, value=texts)
def test_any_text_may_stand_in_sql(
    literal: str, comment: str, name: str, value: str
) -> None:
    """Literals, quoted names, comments and values of any text come back unchanged."""
    assume("\0" not in literal + comment + name + value)
    assume("*/" not in comment and not comment.endswith("*") and name)
    assume(not comment.startswith("/"))
    quoted = literal.replace("'", "''")
    column = name.replace('"', '""')
    sql = f"SELECT '{quoted}' AS a /*{comment}*/, :value AS b, 1 AS \"{column}\""
    assume(name.lower() not in ("a", "b"))
    found = interface(sql)
    made = Application("sqlite://", found)

    with made.app.app_context():
        row = made.ecotone.get(found).find(value)  # type: ignore[attr-defined]

    assert row == {"a": literal, "b": value, name: 1}


@settings(max_examples=300, deadline=None)
@given(sql=texts)
def test_reading_sql_ends(sql: str) -> None:
    """Any text is read, or refused with an error that names the method."""
    assume(sql.strip())

    try:
        compiled(sql)
    except ConfigurationError as error:
        assert "Interface.find" in str(error)


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELECT 'never closed :value", "the quote ' in line 1"),
        ('SELECT 1\nFROM "person', 'the quote " in line 2'),
        ("SELECT `id FROM person", "the quote ` in line 1"),
        ("SELECT 1 /* never", "the comment in line 1"),
        ("SELECT :(value.limit", "the expression in line 1"),
        ("SELECT :(value.find('\\')') + 'a)", "the quote '"),
    ],
)
def test_what_is_not_closed_is_refused(sql: str, what: str) -> None:
    """An open quote, comment or expression is found before anything runs."""
    with pytest.raises(HandlerSignatureError, match=r"\.py:\d+\)") as raised:
        compiled(sql)

    assert what in str(raised.value)
    assert "isn't closed" in str(raised.value)


def test_long_sql_is_read_in_linear_time() -> None:
    """Neither many quotes nor deep parentheses make reading slow."""
    compiled("SELECT " + ", ".join(["'it''s'"] * 20_000))
    compiled(f"SELECT {'(' * 20_000} :value {')' * 20_000}")

    with pytest.raises(HandlerSignatureError, match="isn't closed"):
        compiled("SELECT " + "'" * 20_001)
