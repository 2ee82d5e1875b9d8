"""Threads that leave the signals of the process to its main thread."""

from __future__ import annotations

import signal
import threading
import typing as t


class BackgroundThread(threading.Thread):
    """A thread that no signal is delivered to.

    Python runs signal handlers in the main thread only. A signal that another thread
    receives doesn't interrupt what the main one waits for, and is noticed too late.
    """

    def __init__(self, **options: t.Any) -> None:
        super().__init__(**options)
        self._maker = threading.get_native_id()

    def run(self) -> None:
        # Under gevent all of them are the main thread, which must get signals.
        is_thread = threading.get_native_id() != self._maker
        if is_thread and hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        super().run()
