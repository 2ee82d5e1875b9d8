"""An application of this process, and workers of it in processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import types
import typing as t
from pathlib import Path

import sqlalchemy as sa

from flask_ecotone import event_bus
from flask_ecotone.storage.tables import messages

from ..processes import APPS
from ..processes import end
from ..processes import PATIENCE
from ..processes import until


class Mailroom:
    """The application of this process, and workers in processes of their own.

    :param module: The application: ``tests/apps/mailroom.py``.
    :param environment: What the processes find in their environment.
    """

    def __init__(
        self, module: types.ModuleType, environment: dict[str, str], folder: Path
    ) -> None:
        self.module: t.Any = module
        self.environment = environment
        self.workers: list[subprocess.Popen[str]] = []
        self._folder = folder

    def publish(self, *numbers: int, delay: int = 0, **options: t.Any) -> None:
        """Publish an event for each number, in one transaction.

        :param delay: Milliseconds.
        """
        headers = {"deliveryDelay": delay} if delay else {}
        db, bus = self.module.db, event_bus
        with self.module.app.app_context():
            db.session.execute(sa.text("SELECT 1"))
            for number in numbers:
                event = self.module.LetterCame(number, **options)
                bus.publish(event, headers)
            db.session.commit()

    def start(
        self,
        *arguments: str,
        folder: Path = APPS,
        flask: tuple[str, ...] = ("-m", "flask"),
    ) -> subprocess.Popen[str]:
        """Start a worker; what it says goes into a file, as nobody reads a pipe.

        :param folder: Where the application is.
        :param flask: What Python is to run.
        """
        command = [sys.executable, *flask, "--app", "mailroom", "ecotone"]
        with self._said(len(self.workers)).open("w") as said:
            worker = subprocess.Popen(
                [*command, "run", "letters", *arguments],
                cwd=folder,
                env={
                    **os.environ,
                    **self.environment,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stderr=said,
                text=True,
                start_new_session=True,
            )
        self.workers.append(worker)
        return worker

    def finish(self, worker: subprocess.Popen[str]) -> str:
        """Wait for the end of a worker, and return what it said."""
        worker.wait(timeout=PATIENCE)
        return self.said_by(worker)

    def stop(self, worker: subprocess.Popen[str]) -> str:
        """Ask a worker to stop, and return what it said."""
        # While Python starts, the signal just ends it.
        until(lambda: "Handling messages" in self.said_by(worker))
        worker.send_signal(signal.SIGTERM)
        return self.finish(worker)

    def said_by(self, worker: subprocess.Popen[str]) -> str:
        """Return what a worker has said so far."""
        return self._said(self.workers.index(worker)).read_text()

    def close(self) -> None:
        """End what still runs, workers of a supervisor that is gone as well."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        end(self.workers)

    @property
    def source(self) -> t.Any:
        """Where the messages lie."""
        messaging = self.module.app.extensions["ecotone"].messaging
        return messaging.channels.get("letters").sources()[0]

    @property
    def is_empty(self) -> bool:
        """Whether there are no messages in whatever state."""
        with self.engine.connect() as one:
            query = sa.select(sa.func.count()).select_from(messages)
            return not one.scalar(query)

    @property
    def engine(self) -> sa.Engine:
        """The engine of the database."""
        with self.module.app.app_context():
            return t.cast(sa.Engine, self.module.db.engine)

    def numbers(self) -> list[int]:
        """The numbers of the letters that were sorted, each as often as it was."""
        with self.engine.connect() as one:
            return sorted(one.scalars(sa.select(self.module.Letter.number)))

    def count(self) -> int:
        """How many letters were sorted."""
        with self.engine.connect() as one:
            query = sa.select(sa.func.count()).select_from(self.module.Letter)
            return int(one.scalar(query) or 0)

    def parked(self) -> list[t.Any]:
        """The dead letters."""
        messaging = self.module.app.extensions["ecotone"].messaging
        return t.cast("list[t.Any]", messaging.dead_letters.list(1000))

    def _said(self, number: int) -> Path:
        return self._folder / f"worker-{number}.txt"
