"""The supervisor of ``--processes``: it keeps workers alive."""

from __future__ import annotations

import signal
import time
import typing as t
from dataclasses import dataclass

import click

from ..consuming.outages import lengthening
from .signalling import ABORTS
from .signalling import DUMPS
from .signalling import receiving
from .signalling import STOPS
from .supervised import WorkerProcess

#: Seconds after which a worker has lived long enough not to be to blame for its death.
_LONG_LIFE: t.Final = 10.0
#: Seconds between looks. Usually a signal tells of a death, but under gevent.
_LOOK: t.Final = 1.0


@dataclass(slots=True, eq=False)
class _Place:
    """Where a worker is, or is to be soon."""

    worker: WorkerProcess | None = None
    #: When it started, and when the next one is to, on the monotonic clock.
    started_at: float = 0.0
    due_at: float = 0.0
    #: How many workers in a row had a short life here.
    short_lives: int = 0


class Supervisor:
    """Starts processes with the command of this one, and replaces those that die.

    The first signal lets them finish the message at hand, the second one aborts that,
    and the third one kills.

    :param count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self._places = [_Place() for _ in range(count)]
        self._times_asked = 0
        self._is_stopping = False
        self._code = 0

    def run(self) -> int:
        """Stay until the last worker has ended, and return the exit code."""
        with receiving(*STOPS, *DUMPS, signal.SIGCHLD) as receive:
            while self._places:
                self._start()
                for number in receive(self._pause()):
                    self._obey(number)
                for place, worker in self._workers():
                    code = worker.poll()
                    if code is not None:
                        self._note_end(place, worker, code)
        return self._code

    def _workers(self) -> list[tuple[_Place, WorkerProcess]]:
        return [(each, each.worker) for each in self._places if each.worker is not None]

    def _start(self) -> None:
        for place in self._places:
            if place.worker is not None or place.due_at > time.monotonic():
                continue
            place.started_at = time.monotonic()
            try:
                place.worker = WorkerProcess()
            except OSError as error:
                self._replace(place, f"A worker can't be started ({error})")

    def _pause(self) -> float:
        due = [place.due_at for place in self._places if place.worker is None]
        return max(0.0, min([_LOOK, *(at - time.monotonic() for at in due)]))

    def _obey(self, number: int) -> None:
        if number in STOPS:
            self._times_asked += 1
            ways = signal.SIGTERM, *ABORTS, signal.SIGKILL
            self._stop(ways[min(self._times_asked, len(ways)) - 1])
        elif number in DUMPS:
            pids = [str(worker.pid) for _, worker in self._workers()]
            click.echo(f"Workers that run: {', '.join(pids) or 'none'}.", err=True)
            self._tell(number)

    def _stop(self, number: int) -> None:
        self._is_stopping = True
        self._places = [place for place, _ in self._workers()]
        self._tell(number)

    def _tell(self, number: int) -> None:
        for _, worker in self._workers():
            worker.send_signal(number)

    def _note_end(self, place: _Place, worker: WorkerProcess, code: int) -> None:
        is_final = worker.close()
        if not is_final and not self._is_stopping:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._replace(place, f"A worker ended ({how})")
            return
        self._places.remove(place)
        # As shells tell of a process that a signal ended.
        self._code = self._code or (code if code >= 0 else 128 - code)
        if code and not self._is_stopping:
            self._stop(signal.SIGTERM)

    def _replace(self, place: _Place, why: str) -> None:
        now = time.monotonic()
        is_long = now - place.started_at >= _LONG_LIFE
        place.short_lives = 0 if is_long else place.short_lives + 1
        pause = lengthening(place.short_lives)
        place.worker, place.due_at = None, now + pause
        click.echo(f"{why}; starting anew in {pause:.1f} s.", err=True)
