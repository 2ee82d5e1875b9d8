"""Fixtures of the extension: importable applications, and ``flask`` itself."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_ecotone import Ecotone

APPS = Path(__file__).parent.parent / "apps"

Run = t.Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run() -> Run:
    """Run Python in a process of its own, beside the fixture applications."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if "ECOTONE" not in k}
        return subprocess.run(
            [sys.executable, "-W", "error", *arguments],
            cwd=APPS,
            env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def flask(run: Run) -> Run:
    """Run ``flask --app NAME …`` in a process of its own."""

    def flask(
        app: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return run("-m", "flask", "--app", app, *arguments, **environment)

    return flask


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    """Make the fixture applications importable, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(APPS))
    yield
    tops = {path.stem for path in APPS.iterdir()}
    for name in list(sys.modules):
        if name.partition(".")[0] in tops and name != "conftest":
            del sys.modules[name]


@pytest.fixture
def new_app() -> t.Callable[..., tuple[Flask, Ecotone]]:
    """A function that makes an application with the handlers it is given."""

    def new_app(
        *handlers: t.Any, name: str = "small", **config: t.Any
    ) -> tuple[Flask, Ecotone]:
        app = Flask(name)
        app.config.update(config)
        ecotone = Ecotone(app, packages=[])
        ecotone.register(*handlers)
        return app, ecotone

    return new_app
