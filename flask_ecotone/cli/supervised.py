"""What a worker process and its supervisor tell each other."""

from __future__ import annotations

import os
import sys
import traceback
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..consuming import Outcome
from ..consuming import Stopping
from ..consuming.worker import MEMORY_LIMIT
from ..errors import EcotoneError

#: The exit code of a worker that another one is to replace.
REPLACED: t.Final = 75
#: Exit codes of ends that would repeat: it was to end, it failed, or is used wrongly.
FINISHED: t.Final = 0
FAILED: t.Final = (1, 2)
_SUPERVISOR: t.Final = "ECOTONE_WORKER_PROCESS"


def environment() -> dict[str, str]:
    """Return the environment for workers of this process."""
    return {**os.environ, _SUPERVISOR: str(os.getpid())}


class Supervision:
    """Whether this process is the worker of a supervisor, and what follows from that.

    It is asked for once: the processes that handlers start have no supervisor.
    """

    def __init__(self) -> None:
        self._supervisor = os.environ.pop(_SUPERVISOR, None)

    def __bool__(self) -> bool:
        return self._supervisor is not None

    def check(self, stopping: Stopping, outcome: Outcome) -> None:
        """Ask the worker to stop if the supervisor is gone."""
        if self._supervisor not in (None, str(os.getppid())):
            outcome.reason = "the supervisor is gone"
            stopping.request()

    def end(self, outcome: Outcome) -> None:
        """Let another worker go on where a limit is there to free what this one holds.

        The other limits are there to end the work.
        """
        if self and outcome.reason == MEMORY_LIMIT:
            sys.exit(REPLACED)

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Let another worker go on where this one breaks, for no reason that we know.

        Errors of ours say what is wrong with the application, and would repeat.
        """
        try:
            yield
        except (EcotoneError, click.ClickException, SystemExit):
            raise
        except BaseException:
            if not self:
                raise
            traceback.print_exc()
            sys.exit(REPLACED)
