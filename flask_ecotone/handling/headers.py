"""Headers that markers add to messages, or remove."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..conversion import compile_expression
from ..definitions import HeaderMark
from ..definitions import RemoveHeaderMark
from ..message import Message
from .evaluation import evaluation
from .evaluation import Resolution
from .interceptors import Step


def header_changes(
    adding: Iterable[HeaderMark],
    removing: Iterable[RemoveHeaderMark],
    where: str,
    resolution: Resolution,
) -> Step | None:
    """Return what changes the headers of a message; ``None`` if nothing does.

    :param adding: Of two for one header the first counts.
    :param where: Whose headers they are, for errors.
    """
    added: dict[str, HeaderMark] = {}
    for said in adding:
        added.setdefault(said.name, said)
    removed = {said.name: None for said in removing}
    if not added and not removed:
        return None
    computed = {
        name: compile_expression(said.expression, f"{where}, {name!r}")
        for name, said in added.items()
        if said.expression is not None
    }

    def change(message: Message) -> Message:
        values: dict[str, t.Any] = dict(removed)
        for name, said in added.items():
            if said.keep_existing and message.header(name) is not None:
                continue
            expression = computed.get(name)
            values[name] = (
                said.value
                if expression is None
                else expression(evaluation(message, resolution))
            )
        return message.with_headers(values)

    return change
