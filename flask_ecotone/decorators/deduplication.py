"""The marker of what is handled once."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ..definitions import Mark
from ..errors import ConfigurationError
from .marking import Decorator
from .marking import F
from .marking import is_markable
from .marking import marking

#: What whoever comes with a key again gets.
OnDuplicate = t.Literal["skip", "raise", "return_cached"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeduplicatedMark(Mark):
    """Messages with one key are handled once."""

    #: The name of a header, or an expression; ``None`` for the id of the message.
    key: t.Any = None
    on_duplicate: OnDuplicate = "skip"


@t.overload
def deduplicated(marked: F, /) -> F: ...
@t.overload
def deduplicated(
    *, key: t.Any = None, on_duplicate: OnDuplicate = "skip"
) -> Decorator: ...
def deduplicated(
    marked: t.Any = None,
    /,
    *,
    key: t.Any = None,
    on_duplicate: OnDuplicate = "skip",
) -> t.Any:
    """Handle one message of those that have the same key.

    The key is noted in the transaction of the handler, before that runs. If it fails
    the key is free again. Two endpoints have keys of their own; on a bus class a key
    stands for one message through that bus, whoever handles it.

    With :func:`without_transaction` there is nothing that would take the key back if
    the process dies. It is noted after the handler has succeeded, and of two messages
    that come at the same time both are handled, with a warning in the log.

    :param key: The name of a header, or an expression: a callable, or a string that
        reads for example ``payload`` or ``headers``. The id of the message if left out.
    :param on_duplicate: What whoever comes with the key again gets: ``"skip"`` returns
        ``None``, ``"raise"`` raises :exc:`~flask_ecotone.errors.DuplicateMessageError`
        and ``"return_cached"`` returns what the first one returned, kept as JSON.
    """
    if on_duplicate not in t.get_args(OnDuplicate):
        raise ConfigurationError(
            f"@deduplicated has on_duplicate={on_duplicate!r}. It is one of"
            f" {', '.join(map(repr, t.get_args(OnDuplicate)))}."
        )
    if marked is not None and not is_markable(marked):
        raise ConfigurationError(
            f"@deduplicated({marked!r}) doesn't say what that is. Write"
            f" @deduplicated(key={marked!r})."
        )
    if key is not None and (not key or not isinstance(key, str)) and not callable(key):
        raise ConfigurationError(
            f"@deduplicated has key={key!r}. Give the name of a header, or an"
            " expression such as 'payload.order_id' or a function."
        )
    decorate = marking(DeduplicatedMark(key=key, on_duplicate=on_duplicate))
    return decorate if marked is None else decorate(marked)
