"""What is written down of a failure."""

from __future__ import annotations

import traceback
import typing as t
from collections.abc import Callable

import pytest

from flask_ecotone.consuming import tracebacks
from flask_ecotone.consuming.tracebacks import written


def fail() -> None:
    raise ValueError("no such\nthing")


def lead_to_another() -> None:
    try:
        fail()
    except ValueError as error:
        raise KeyError("another") from error


def fail_while_failing() -> None:
    try:
        lead_to_another()
    except KeyError:
        fail()


def hide_the_reason() -> None:
    try:
        fail()
    except ValueError:
        raise KeyError("only this") from None


def fail_with_notes() -> None:
    error = ValueError("with notes")
    error.add_note("of two\nlines")
    raise error


def call_itself(depth: int = 20) -> None:
    if depth:
        call_itself(depth - 1)
    fail()


def call_itself_for_ever() -> None:
    call_itself_for_ever()


def fail_to_be_read() -> None:
    compile("a = = b", "somewhere.py", "exec")


def misspell() -> None:
    print(tracebak)  # type: ignore[name-defined] # noqa: F821


def fail_without_source() -> None:
    exec(compile("\n\nfail()", "nowhere.py", "exec"), {"fail": fail})


def fail_in_a_group() -> None:
    errors: list[Exception] = [ValueError("never raised")]
    calls: list[Callable[[], None]] = [fail, lead_to_another]
    for each in calls:
        try:
            each()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", [errors[0], ExceptionGroup("two", errors[1:])])


def fail_in_a_circle() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    raise one


def fail_on_many_lines() -> None:
    (
        [
            1,
            2,
        ][
            len("long")
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    "call",
    [
        fail,
        lead_to_another,
        fail_while_failing,
        hide_the_reason,
        fail_with_notes,
        call_itself,
        call_itself_for_ever,
        fail_to_be_read,
        misspell,
        fail_without_source,
        fail_in_a_group,
        fail_in_a_circle,
        fail_on_many_lines,
    ],
)
def test_it_is_what_python_writes(call: t.Callable[[], None]) -> None:
    """The first time and later, with causes, notes, groups and what is repeated."""
    for _ in range(2):
        with pytest.raises((Exception, ExceptionGroup)) as raised:
            call()
        error = raised.value
        assert written(error) == "".join(traceback.format_exception(error))


def test_places_do_not_pile_up() -> None:
    """Of code that is made again and again nothing is remembered for long."""
    for number in range(11_000):
        try:
            exec(compile("1 / 0", f"made_{number}.py", "exec"))
        except ZeroDivisionError as error:
            assert f'File "made_{number}.py", line 1' in written(error)
    assert len(tracebacks._known) <= 10_000
