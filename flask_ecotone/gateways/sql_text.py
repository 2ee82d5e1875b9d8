"""SQL, read just enough to find its parameters.

``:name`` is a parameter and ``:(expression)`` is one that is computed. In literals,
quoted names and comments both are text, and ``::`` is a cast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import HandlerSignatureError
from ..storage.protocols import SqlText

_STANDARD = re.compile(r"(?:[^']|'')*+'")
_STANDARD_NAME = re.compile(r'(?:[^"]|"")*+"')
_BACKSLASHED = re.compile(r"(?:[^'\\]|\\.|'')*+'", re.DOTALL)
_BACKSLASHED_NAME = re.compile(r'(?:[^"\\]|\\.|"")*+"', re.DOTALL)
_BACKTICKED = re.compile(r"[^`]*`")
_DOLLAR = re.compile(r"\$(?:[^\W\d]\w*)?\$")
_LINE = re.compile(r"[^\n]*")
_EXPRESSION_MARK = re.compile(r"""[()'"]""")
_COMMENT_MARK = re.compile(r"/\*|\*/")
_NAME = re.compile(r"[^\W\d]\w*")
#: Where something other than plain text may begin.
_START = re.compile(r"""['"`$:#]|\\:|--|/\*""")


@dataclass(frozen=True, slots=True)
class ParsedSql:
    """SQL and the expressions in it."""

    text: SqlText
    #: The name that stands for an expression → the expression.
    expressions: dict[str, str]


def parse_sql(sql: str, dialect: str, where: str) -> ParsedSql:
    """Find the parameters of SQL.

    :param dialect: The name of the dialect it is written in.
    :param where: Whose SQL it is, for errors.
    :raises HandlerSignatureError: A literal or an expression isn't closed.
    """
    return _Parser(sql, dialect, where).parse()


class _Parser:
    def __init__(self, sql: str, dialect: str, where: str) -> None:
        self._sql = sql
        self._where = where
        self._is_mysql = dialect in ("mysql", "mariadb")
        self._nests_comments = dialect == "postgresql"

    def parse(self) -> ParsedSql:
        sql = self._sql
        pieces: list[str] = []
        found: dict[int, str] = {}
        text = ""
        copied = position = 0
        while start := _START.search(sql, position):
            mark, position = start[0], start.end()
            if mark == "\\:":
                # A colon, written as SQLAlchemy wants it in text().
                text, copied = text + sql[copied : start.start()], position - 1
                continue
            if mark != ":":
                position = self._end_of(mark, start.start()) or position
                continue
            if not self._may_be_parameter(start.start()):
                continue
            name = _NAME.match(sql, position)
            if name is not None:
                end = name.end()
                value = name[0]
            elif sql.startswith("(", position):
                end = self._end_of_expression(position)
                value = ""
                found[len(pieces) + 1] = sql[position + 1 : end - 1].strip()
            else:
                continue
            pieces += [text + sql[copied : start.start()], value]
            text, copied, position = "", end, end
        pieces.append(text + sql[copied:])
        expressions = _named(pieces, found)
        return ParsedSql(SqlText(tuple(pieces)), expressions)

    def _may_be_parameter(self, at: int) -> bool:
        before = self._sql[at - 1 : at]
        return not before or not (before.isalnum() or before in "_:")

    def _end_of(self, mark: str, at: int) -> int:
        """Return the position behind what a mark begins, 0 if it begins nothing."""
        sql, after = self._sql, at + len(mark)
        if mark == "'":
            is_extended = at > 0 and sql[at - 1] in "eE" and not _is_word(sql, at - 2)
            has_escapes = self._is_mysql or is_extended
            return self._match(_BACKSLASHED if has_escapes else _STANDARD, after, at)
        if mark == '"':
            name = _BACKSLASHED_NAME if self._is_mysql else _STANDARD_NAME
            return self._match(name, after, at)
        if mark == "`":
            return self._match(_BACKTICKED, after, at)
        if mark == "$":
            tag = _DOLLAR.match(sql, at)
            if tag is None or _is_word(sql, at - 1) or self._is_mysql:
                return 0
            closed = sql.find(tag[0], tag.end())
            return 0 if closed < 0 else closed + len(tag[0])
        if mark == "/*":
            return self._end_of_comment(at)
        begins = mark == "--" or mark == "#" and self._is_mysql
        if mark == "--" and self._is_mysql:
            # 5--:x is a subtraction there.
            begins = after == len(sql) or sql[after].isspace()
        line = _LINE.match(sql, after)
        return line.end() if begins and line is not None else 0

    def _match(self, pattern: re.Pattern[str], after: int, at: int) -> int:
        found = pattern.match(self._sql, after)
        if found is None:
            raise self._unclosed(f"the quote {self._sql[at]}", at)
        return found.end()

    def _end_of_comment(self, at: int) -> int:
        if not self._nests_comments:
            closed = self._sql.find("*/", at + 2)
            if closed >= 0:
                return closed + 2
            raise self._unclosed("the comment", at)
        depth = 0
        for mark in _COMMENT_MARK.finditer(self._sql, at):
            depth += 1 if mark[0] == "/*" else -1
            if not depth:
                return mark.end()
        raise self._unclosed("the comment", at)

    def _end_of_expression(self, at: int) -> int:
        depth = 0
        position = at
        while mark := _EXPRESSION_MARK.search(self._sql, position):
            position = mark.end()
            if mark[0] in "'\"":
                quoted = _BACKSLASHED if mark[0] == "'" else _BACKSLASHED_NAME
                position = self._match(quoted, position, mark.start())
                continue
            depth += 1 if mark[0] == "(" else -1
            if not depth:
                return position
        raise self._unclosed("the expression", at - 1)

    def _unclosed(self, what: str, at: int) -> HandlerSignatureError:
        line = self._sql.count("\n", 0, at) + 1
        shown = self._sql[at : at + 30].strip().partition("\n")[0]
        return HandlerSignatureError(
            f"{self._where}: {what} in line {line} of the SQL isn't closed: {shown!r}."
        )


def _named(pieces: list[str], found: dict[int, str]) -> dict[str, str]:
    """Name the parameters that stand for expressions, the same for the same ones."""
    taken = set(pieces[1::2])
    names: dict[str, str] = {}
    for at, expression in found.items():
        if expression not in names:
            number = len(names) + 1
            while (name := f"expression_{number}") in taken:
                number += 1
            taken.add(name)
            names[expression] = name
        pieces[at] = names[expression]
    return {name: expression for expression, name in names.items()}


def _is_word(sql: str, at: int) -> bool:
    return at >= 0 and (sql[at].isalnum() or sql[at] in "_$")
