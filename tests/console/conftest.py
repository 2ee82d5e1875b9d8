"""Fixtures of console commands: applications made of functions, and ``flask``."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import typing as t
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask

from flask_ecotone import Ecotone

#: Runs a command line in an application with the given commands.
Run = t.Callable[..., Result]
#: Writes ``site.py``, runs ``flask --app site …`` and returns the finished process.
FlaskCommand = t.Callable[..., "subprocess.CompletedProcess[str]"]

#: What the script ``flask`` does, with warnings as errors.
MAIN = "import sys, flask.cli; sys.argv[0] = 'flask'; flask.cli.main()"


@pytest.fixture
def new_app() -> t.Callable[..., Flask]:
    """A function that makes an application of what is marked."""

    def new_app(*found: t.Any, **config: t.Any) -> Flask:
        app = Flask("shop")
        app.config.update(config)
        ecotone = Ecotone(app, packages=[])
        ecotone.register(*found)
        return app

    return new_app


@pytest.fixture
def run(new_app: t.Callable[..., Flask]) -> Run:
    """A function that runs one command line, as a shell would split it."""

    def run(found: t.Any, *argv: str, **options: t.Any) -> Result:
        listed = found if isinstance(found, (list, tuple)) else [found]
        return new_app(*listed).test_cli_runner().invoke(args=argv, **options)

    return run


@pytest.fixture
def flask(tmp_path: Path) -> FlaskCommand:
    """A function that runs ``flask`` with a module of its own, in another process."""

    def flask(
        source: str, *argv: str, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "site_app.py").write_text(textwrap.dedent(source))
        inherited = {k: v for k, v in os.environ.items() if "ECOTONE" not in k}
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", MAIN, "--app", "site_app", *argv],
            cwd=tmp_path,
            env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    return flask
