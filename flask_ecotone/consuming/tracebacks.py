"""Tracebacks in writing.

The standard library looks at source files for each line of each traceback, and parses
the line. Among messages that fail in the same way that takes longer than anything else
that is done with them, so that each place in the code is written down once.
"""

from __future__ import annotations

import traceback
import typing as t
from collections.abc import Iterator
from itertools import groupby
from types import CodeType
from types import TracebackType

#: How many places are remembered: many more than an application fails at.
_MOST: t.Final = 10_000
#: How often a place is repeated in writing where a function calls itself.
_REPEATED: t.Final = 3

#: By identity: the same code in two files is equal.
_known: dict[tuple[int, int], tuple[CodeType, str]] = {}


def written(error: BaseException) -> str:
    """Return the traceback of an error, with those of the errors that led to it."""
    report = traceback.TracebackException.from_exception(error, limit=0)
    waiting: list[tuple[t.Any, t.Any]] = [(report, error)]
    while waiting:
        each, found = waiting.pop()
        each.stack = _Places(_places(found.__traceback__))
        waiting += [
            (each.__cause__, found.__cause__),
            (each.__context__, found.__context__),
            *zip(each.exceptions or (), getattr(found, "exceptions", ()), strict=True),
        ]
        # What was told already isn't told again.
        waiting = [pair for pair in waiting if pair[0] is not None]
    return "".join(report.format())


class _Places(list[str]):
    """Stands for a :class:`traceback.StackSummary`."""

    def format(self, **options: t.Any) -> list[str]:
        """Return the lines."""
        return list(self)


def _places(found: TracebackType | None) -> Iterator[str]:
    for place, group in groupby(_each_place(found)):
        count = sum(1 for _ in group)
        yield from [place] * min(count, _REPEATED)
        if count > _REPEATED:
            yield f"  [Previous line repeated {count - _REPEATED} more times]\n"


def _each_place(found: TracebackType | None) -> Iterator[str]:
    while found is not None:
        code = found.tb_frame.f_code
        key = id(code), found.tb_lasti
        known = _known.get(key)
        if known is None:
            if len(_known) >= _MOST:
                _known.clear()  # code that is made again and again
            # As long as the code is kept, no other one has its id.
            known = _known[key] = code, "".join(traceback.format_tb(found, 1))
        yield known[1]
        found = found.tb_next
