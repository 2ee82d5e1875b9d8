"""A PostgreSQL server that belongs to one test run, to be stopped and filled up."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest

_BINARIES = "/usr/lib/postgresql/*/bin"


class PostgreSQL:
    """A server on a free port; without the programs the test is skipped, or fails."""

    def __init__(self) -> None:
        found = sorted(glob.glob(_BINARIES))
        if not found:
            missing(f"there is no PostgreSQL server to start in {_BINARIES}")
        self._programs = Path(found[-1])
        self.folder = Path(tempfile.mkdtemp(prefix="ecotone-", dir="/tmp"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._user: dict[str, t.Any] = {}
        if os.geteuid() == 0:
            # It refuses to be run by root.
            self._user = {"user": "postgres", "group": "postgres", "extra_groups": []}
            self.give(self.folder)

    def __enter__(self) -> t.Self:
        data = self.folder / "data"
        self._run("initdb", "-A", "trust", "-U", "postgres", "-N", "-D", data)
        settings = (
            f"port = {self._port}",
            "listen_addresses = '127.0.0.1'",
            f"unix_socket_directories = '{self.folder}'",
            "fsync = off",
        )
        with (data / "postgresql.auto.conf").open("a") as file:
            file.write("\n".join([*settings, ""]))
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    @property
    def url(self) -> str:
        """The address of its only database."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        log = self.folder / "log"
        self._run("pg_ctl", "start", "-w", "-D", self.folder / "data", "-l", log)

    def stop(self, mode: str) -> None:
        """Stop: ``"fast"`` ends its connections, ``"immediate"`` is a crash."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.folder / "data")

    def give(self, folder: Path) -> None:
        """Let the server have a folder."""
        if self._user:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._programs / program, *map(str, arguments)],
            check=True,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=120,
            **self._user,
        )


def missing(reason: str) -> t.NoReturn:
    """Skip the test, or fail where everything is required."""
    if os.environ.get("ECOTONE_REQUIRE_SERVICES") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
