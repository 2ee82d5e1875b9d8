"""A worker process under supervision: what it looks like from both ends."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress

from ..consuming import Outcome
from ..consuming import Stopping
from ..consuming.worker import MEMORY_LIMIT
from ..errors import EcotoneError
from .signalling import held_back

#: Tells a process who supervises it, and through which pipe it reports.
_VARIABLE: t.Final = "ECOTONE_WORKER_PROCESS"
_BEGUN: t.Final = b"b"
_ENDED: t.Final = b"e"
#: Exit codes of what can't even begin: the application isn't there, or has an error.
_CANNOT_BEGIN: t.Final = (1, 2)


class WorkerProcess:
    """A process with the command of this one, as its supervisor sees it.

    An exit code alone doesn't tell why it ended: handlers, and what they call, may exit
    with any. So it reports when it begins to work, and when it ends on purpose.
    """

    def __init__(self) -> None:
        self._reports, reporting = os.pipe()
        os.set_blocking(self._reports, False)
        environment = {**os.environ, _VARIABLE: f"{os.getpid()}:{reporting}"}
        try:
            with held_back():
                self._process = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    env=environment,
                    pass_fds=[reporting],
                )
        except OSError:
            os.close(self._reports)
            raise
        finally:
            os.close(reporting)
        self.pid = self._process.pid
        self.send_signal = self._process.send_signal

    def poll(self) -> int | None:
        """Return the exit code if it has ended, below 0 if a signal ended it."""
        return self._process.poll()

    def close(self) -> bool:
        """Return whether the next one would end in the same way."""
        reported = b""
        with suppress(BlockingIOError):
            reported = os.read(self._reports, 2)
        os.close(self._reports)
        if not reported:
            return self._process.returncode in _CANNOT_BEGIN
        return reported.endswith(_ENDED)


class Supervision:
    """The supervisor of this process, if there is one.

    It is asked for once: what handlers start has none.
    """

    def __init__(self) -> None:
        found = os.environ.pop(_VARIABLE, "")
        self._supervisor, _, self._reporting = found.partition(":")

    def __bool__(self) -> bool:
        return bool(self._supervisor)

    @contextmanager
    def working(self, outcome: Outcome) -> Iterator[None]:
        """Report that the work begins, and its end unless another one is to go on.

        That is so when this one breaks, or has reached the limit which is there to free
        what it holds. Errors of ours say what is wrong with the application.
        """
        self._report(_BEGUN)
        try:
            yield
        except EcotoneError:
            self._report(_ENDED)
            raise
        if outcome.reason != MEMORY_LIMIT:
            self._report(_ENDED)

    def check(self, stopping: Stopping, outcome: Outcome) -> None:
        """Ask the worker to stop if the supervisor is gone."""
        if self and self._supervisor != str(os.getppid()):
            outcome.reason = "the supervisor is gone"
            stopping.request()

    def _report(self, what: bytes) -> None:
        if self._reporting:
            with suppress(BrokenPipeError):  # it is gone
                os.write(int(self._reporting), what)
