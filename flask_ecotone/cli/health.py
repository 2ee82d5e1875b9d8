"""The file of ``flask ecotone run --health-file``."""

from __future__ import annotations

from logging import Logger
from pathlib import Path

import click


def in_a_folder(
    ctx: click.Context, param: click.Parameter, value: Path | None
) -> Path | None:
    """Refuse a file whose folder isn't there: nobody would look for it elsewhere."""
    if value is not None and not value.parent.is_dir():
        raise click.BadParameter(
            f"The folder {str(value.parent)!r} isn't there. Make it first."
        )
    return value


class HealthFile:
    """Is touched while a worker lives.

    A worker goes on without it: whoever looks at the file takes the worker for dead,
    and that is for him to decide. The log has it once, not with each attempt.
    """

    def __init__(self, path: Path, logger: Logger) -> None:
        self._path = path
        self._log = logger
        self._is_lost = False

    def touch(self) -> None:
        """Touch the file, and tell if that can't be done any more, or again."""
        try:
            self._path.touch()
        except OSError as error:
            if not self._is_lost:
                self._log.warning(
                    "The health file %s can't be touched (%s). The worker goes on and"
                    " tries again; who looks at the file takes it for dead meanwhile.",
                    self._path,
                    error.strerror or error,
                )
            self._is_lost = True
        else:
            if self._is_lost:
                self._log.info("The health file %s is touched again.", self._path)
            self._is_lost = False
