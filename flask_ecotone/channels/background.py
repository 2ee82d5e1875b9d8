"""Threads that leave the signals of the process to its main thread."""

from __future__ import annotations

import signal
import threading


class BackgroundThread(threading.Thread):
    """A thread that no signal is delivered to.

    Python runs signal handlers in the main thread only. A signal that another thread
    receives doesn't interrupt what the main one waits for, and is noticed too late.
    """

    def run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        super().run()
