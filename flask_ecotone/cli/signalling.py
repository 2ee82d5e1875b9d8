"""What signals ask a worker, or its supervisor, to do."""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
import time
import types
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from contextlib import suppress

from ..channels.background import BackgroundThread
from ..consuming import Outcome
from ..consuming import Stopping

_Handler = Callable[[int, types.FrameType | None], None]


def _known(*names: str) -> tuple[signal.Signals, ...]:
    """Return those signals that the system has; Windows has few of them."""
    return tuple(each for each in signal.Signals if each.name in names)


STOPS: t.Final = _known("SIGTERM", "SIGINT", "SIGQUIT")
DUMPS: t.Final = _known("SIGUSR1")
#: A supervisor aborts by a signal of its own: of the others a worker gets two for one,
#: as terminals and service managers send them to all processes of a group.
ABORTS: t.Final = _known("SIGUSR2")
#: Only interrupts, and says nothing: without a handler it is ignored.
_INTERRUPTS: t.Final = _known("SIGURG")
#: Seconds between interruptions of a main thread that takes no notice.
_IMPATIENCE: t.Final = 0.05


class _Aborted(BaseException):
    """The message at hand is given back."""


@contextmanager
def obeying(
    stopping: Stopping, outcome: Outcome, *, is_supervised: bool
) -> Iterator[None]:
    """Stop, abort, or tell what was done, when signals ask for it.

    The first one stops, the second one aborts. A third one ends the process: it may be
    that other threads don't come to an end.

    :param is_supervised: Whether only the supervisor aborts, not a second signal.
    """
    is_aborted = False

    def stop(number: int, frame: types.FrameType | None) -> None:
        if not stopping.is_requested:
            stopping.request()
        elif not is_supervised:
            abort(number, frame)

    def abort(number: int, frame: types.FrameType | None) -> None:
        nonlocal is_aborted
        stopping.request()
        if not is_aborted:
            is_aborted = True
            raise _Aborted
        if not is_supervised:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def dump(number: int, frame: types.FrameType | None) -> None:
        done = f"{outcome.handled} messages handled, {outcome.failed} failed so far.\n"
        # The file object may be in the midst of writing, and wouldn't bear another one.
        os.write(sys.stderr.fileno(), done.encode())
        faulthandler.dump_traceback(all_threads=True)

    if threading.current_thread() is not threading.main_thread():
        yield  # somebody runs the command inside of a program
        return
    wanted: dict[signal.Signals, _Handler] = {
        **dict.fromkeys(STOPS, stop),
        **dict.fromkeys(ABORTS, abort),
        **dict.fromkeys(DUMPS, dump),
    }
    try:
        with _handling(wanted), _noticed(*wanted), _masking("SIG_UNBLOCK"):
            yield
    except _Aborted:
        outcome.reason = "aborted"


@contextmanager
def _noticed(*numbers: signal.Signals) -> Iterator[None]:
    """Interrupt what the main thread waits for until it has noticed signals.

    It calls their handlers when it comes back from the system. But the system gives a
    signal to another thread of a worker while one waits for the main thread, and then
    interrupts only what that other one does.
    """
    is_noticed, is_over = True, False

    def notice(number: int, frame: types.FrameType | None) -> None:
        nonlocal is_noticed
        is_noticed = True

    def insist() -> None:
        nonlocal is_noticed
        while not is_over:
            is_noticed = _said(reading).isdisjoint(numbers)
            while not (is_noticed or is_over):
                os.kill(os.getpid(), _INTERRUPTS[0])
                time.sleep(_IMPATIENCE)

    if not _INTERRUPTS:
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = BackgroundThread(target=insist, daemon=True)
    thread.start()
    earlier = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        with _handling(dict.fromkeys(_INTERRUPTS, notice)):
            yield
    finally:
        signal.set_wakeup_fd(earlier)
        is_over = True
        with suppress(BlockingIOError):
            os.write(writing, b"\0")
        thread.join()
        os.close(reading)
        os.close(writing)


def _said(reading: int) -> frozenset[int]:
    """Wait for signals that come through a pipe, and return their numbers."""
    select.select([reading], [], [])  # under gevent others go on meanwhile
    return frozenset(os.read(reading, select.PIPE_BUF))


@contextmanager
def held_back() -> Iterator[None]:
    """Start processes that get their signals when they obey them.

    Before and after that a signal would just end them. What is blocked is inherited.
    """
    with _masking("SIG_BLOCK"):
        yield


@contextmanager
def receiving(*numbers: signal.Signals) -> Iterator[Callable[[float], bytes]]:
    """Yield a function that waits some seconds at most, and returns what signals came.

    They come through a pipe: none is lost while nobody waits, and none interrupts what
    is being done.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)

    def receive(seconds: float) -> bytes:
        select.select([reading], [], [], seconds)
        try:
            return os.read(reading, select.PIPE_BUF)
        except BlockingIOError:
            return b""

    earlier = signal.set_wakeup_fd(writing)
    try:
        with _handling(dict.fromkeys(numbers, lambda number, frame: None)):
            yield receive
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(reading)
        os.close(writing)


@contextmanager
def _handling(wanted: Mapping[signal.Signals, _Handler]) -> Iterator[None]:
    earlier = {each: signal.signal(each, handler) for each, handler in wanted.items()}
    try:
        yield
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)


@contextmanager
def _masking(how: str) -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    numbers = (*STOPS, *ABORTS, *DUMPS)
    earlier = signal.pthread_sigmask(getattr(signal, how), numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
