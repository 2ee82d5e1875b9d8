"""Gives claimed messages back, during an outage as soon as that is over."""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger

from ..channels.protocols import Delivery
from ..channels.protocols import Source
from ..storage.failures import told
from .environment import OutageError
from .leases import Leases
from .processing import Processor

Deliveries = Sequence[Delivery]


class Returning:
    """Gives back what a worker has claimed, and remembers what it couldn't.

    As long as the worker lives, it extends the leases of what it owes: an outage costs
    a message no attempt.
    """

    def __init__(self, leases: Leases, processor: Processor, logger: Logger) -> None:
        self._leases = leases
        self._processor = processor
        self._log = logger
        self._owed: list[tuple[Source, Deliveries, Deliveries]] = []

    def give_back(
        self, source: Source, waiting: Deliveries, finished: Deliveries = ()
    ) -> None:
        """Give back messages, and remove those that were handled apart from them."""
        try:
            if finished:
                source.finish(finished)
            if waiting:
                source.release(waiting)
        except Exception as error:
            if not self._processor.is_outage(error):
                raise
            self._owed.append((source, waiting, finished))
            self._log.warning(
                "%d messages of %r could not be removed, and %d not be given back. That"
                " is done when the database is there again: %s",
                len(finished),
                source.channel,
                len(waiting),
                told(error),
            )
        except BaseException:
            # A signal broke it off: it is the last thing that the worker does.
            self._owed.append((source, waiting, finished))
            raise
        else:
            self._leases.drop(*waiting, *finished)

    def settle(self, source: Source) -> None:
        """Give back what is owed to a source.

        :raises OutageError: It still can't be done.
        """
        if not self._owed:
            return
        key = source.channel, source.tenant
        owed, self._owed = self._owed, []
        for each in owed:
            if (each[0].channel, each[0].tenant) == key:
                self.give_back(*each)
            else:
                self._owed.append(each)
        if any((each[0].channel, each[0].tenant) == key for each in self._owed):
            raise OutageError("what was claimed before can't be given back yet")

    def settle_all(self) -> None:
        """Give back what is owed, as far as that can be done."""
        owed, self._owed = self._owed, []
        for each in owed:
            self.give_back(*each)
