"""Messages that leave for other places once a transaction is committed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from ..channels.protocols import by_channel
from ..channels.protocols import deliver
from ..channels.protocols import Post
from ..channels.protocols import Preparing


class Departure:
    """Messages for channels that don't take part in a transaction.

    It is made just before the commit, and does then what can fail: where a channel
    can't be reached, there is no commit either.
    """

    def __init__(self, posts: Sequence[Post]) -> None:
        self._others: list[Post] = []
        with ExitStack() as stack:
            for channel, envelopes in by_channel(posts):
                if isinstance(channel, Preparing):
                    stack.enter_context(channel.taking(envelopes))
                else:
                    self._others.extend((channel, each) for each in envelopes)
            self._prepared = stack.pop_all()

    def send(self) -> None:
        """Send them: the transaction is committed."""
        self._prepared.close()
        deliver(self._others)

    def give_up(self) -> None:
        """Send none: the transaction isn't committed."""
        error = _GivenUp()
        self._prepared.__exit__(_GivenUp, error, None)


class _GivenUp(Exception):
    """Ends what was prepared as if it had failed."""
