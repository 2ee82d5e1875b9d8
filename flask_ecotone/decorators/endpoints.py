"""Markers that change how an endpoint or a gateway works."""

from __future__ import annotations

import typing as t

from ..definitions import EnvironmentMark
from ..definitions import HeaderMark
from ..definitions import InstantRetryMark
from ..definitions import PriorityMark
from ..definitions import PropagateHeadersMark
from ..definitions import RemoveHeaderMark
from ..definitions import WithoutTransactionMark
from ..errors import ConfigurationError
from ..message import CONTENT_TYPE
from ..retries import Exceptions
from ..retries import exceptions_in
from .marking import Decorator
from .marking import F
from .marking import marking


def priority(number: int) -> Decorator:
    """Order the handlers of one event: a higher number runs earlier; 1 unless given."""
    return marking(PriorityMark(priority=number))


def add_header(
    name: str, value: t.Any = None, *, expression: t.Any = None
) -> Decorator:
    """Add a header to the messages of a handler, or of every handler of a class.

    :param value: The value of the header.
    :param expression: A callable or string that computes it from the message instead.
    """
    if (value is None) == (expression is None):
        raise ConfigurationError(
            f"@add_header({name!r}) takes either a value or an expression."
        )
    return marking(HeaderMark(name=name, value=value, expression=expression))


def remove_header(name: str) -> Decorator:
    """Remove a header from the messages of a handler, or of all handlers of a class."""
    return marking(RemoveHeaderMark(name=name))


def content_type(media_type: str, *, replace: bool = False) -> Decorator:
    """Say which media type the payload of a handler's messages has.

    :param replace: Replace the media type that a message already carries.
    """
    return marking(
        HeaderMark(name=CONTENT_TYPE, value=media_type, keep_existing=not replace)
    )


def instant_retry(
    times: int,
    *,
    exceptions: Exceptions = Exception,
    except_for: Exceptions = (),
) -> Decorator:
    """Send a failed command again, at once, in a fresh unit of work.

    On a handler it concerns the commands of that handler, on a bus class the commands
    sent through it.

    :param times: How many times to try again after the first failure.
    :param exceptions: The exceptions that are worth trying again.
    :param except_for: Those among them that never are.
    """
    if times < 1:
        raise ConfigurationError(
            f"@instant_retry needs at least one retry, not {times}."
        )
    return marking(
        InstantRetryMark(
            times=times,
            exceptions=exceptions_in(exceptions, "exceptions of @instant_retry"),
            except_for=exceptions_in(except_for, "except_for of @instant_retry"),
        )
    )


@t.overload
def without_transaction(marked: F, /) -> F: ...
@t.overload
def without_transaction() -> Decorator: ...
def without_transaction(marked: t.Any = None) -> t.Any:
    """Run a command handler, or a bus, without a unit of work of its own.

    The handler commits by itself. Inside the unit of work of another command it still
    takes part in that one. Two messages with one key of ``@deduplicated`` that come at
    the same time are both handled.
    """
    decorate = marking(WithoutTransactionMark())
    return decorate if marked is None else decorate(marked)


def propagate_headers(propagate: bool) -> Decorator:
    """Say whether messages sent while this bus's message is handled inherit headers."""
    return marking(PropagateHeadersMark(propagate=propagate))


def environment(*names: str) -> Decorator:
    """Register a function or class only in the named environments.

    The environment is ``ECOTONE_ENVIRONMENT``, or ``"test"`` while testing, ``"dev"``
    in debug mode and ``"production"`` otherwise.
    """
    return marking(EnvironmentMark(names=names))
