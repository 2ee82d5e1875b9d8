"""Filters by a name that nobody has are probably misspelt, and are refused.

What is gone from the code may still be in a table, and must be found there.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence

from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from ..discovery.manifest import reference
from ..errors import did_you_mean
from ..errors import EcotoneError
from ..errors import UnknownChannelError
from ..errors import UnknownEndpointError

#: Returns the names that the table of a target has.
Kept = Callable[[], Collection[str]]


def check_endpoint(name: str | None, kept: Kept) -> None:
    """Refuse the name of an endpoint that is neither in the code nor in a table.

    :param kept: Returns what is in the tables.
    :raises UnknownEndpointError: It is nowhere.
    """
    if name is None:
        return
    state = current_app.extensions["ecotone"]
    known = {endpoint.id for endpoint in state.system.endpoints}
    # What is noted for a bus has the name of that.
    known.update(map(reference, state.catalogue.buses))
    if name not in known and name not in (found := _found(kept, name)):
        raise UnknownEndpointError(
            f"There is no endpoint {name!r}, neither in the code nor in the table."
            f"{did_you_mean(name, {*known, *found})} 'flask ecotone list --json' has"
            " each with its endpoint_id."
        )


def check_channel(name: str | None, kept: Kept) -> None:
    """Refuse the name of a channel that is neither in the code nor in a table.

    :param kept: Returns what is in the tables.
    :raises UnknownChannelError: It is nowhere, or is made of others.
    """
    if name is None:
        return
    state = current_app.extensions["ecotone"]
    messaging = state.messaging
    channels = messaging.channels
    known = {channel.name for channel in messaging.members_of(*channels.names)}
    # What failed on a bus that waits for its handlers came from that.
    known.update(state.system.error_routes)
    if name in known or name in (found := _found(kept, name)):
        return
    parts: Sequence[str] = channels.hops_of(name)
    if name in channels.names:
        parts = [channel.name for channel in messaging.members_of(name)]
    if parts:
        raise UnknownChannelError(
            f"{name!r} has no messages of its own: it is made of {', '.join(parts)}."
            " Name one of those."
        )
    raise UnknownChannelError(
        f"There is no channel {name!r}, neither in the code nor in the table."
        f"{did_you_mean(name, {*known, *found})} There are"
        f" {', '.join(sorted({*known, *found}))}."
    )


def _found(kept: Kept, name: str) -> Collection[str]:
    try:
        return kept()
    except (EcotoneError, SQLAlchemyError):
        # The command itself meets that, and tells whose database it is.
        return (name,)
