"""How a message is handled that a worker took from a channel."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ..message import Message
from .endpoint import Endpoint
from .endpoint import Flow
from .surroundings import in_context
from .surroundings import Patience
from .surroundings import retrying
from .surroundings import Surroundings


def is_new() -> bool:
    """Say of a message that nothing keeps that it is handled for the first time."""
    return True


def received(
    endpoint: Endpoint,
    message: Message,
    settle: Callable[[], bool],
    patience: Patience,
    around: Surroundings,
) -> None:
    """Handle a message, in this order: retry, tenant, transaction, settling.

    :param settle: Removes the message, as part of the transaction, and returns whether
        it is handled for the first time.
    """
    flow = endpoint.execute or endpoint.handle
    transaction = around.transaction if endpoint.is_transactional else None

    def first_time(entered: Message) -> t.Any:
        return flow(entered) if settle() else None

    def attempt(entered: Message) -> t.Any:
        if transaction is None:
            return first_time(entered)
        return transaction.run(entered.payload, lambda: first_time(entered))

    collected: Flow = attempt
    if around.outbox is not None:
        collected = around.outbox.collecting(attempt)
    repeated = retrying(around.for_tenant(collected), patience, around)
    in_context(around.context, message, repeated)
