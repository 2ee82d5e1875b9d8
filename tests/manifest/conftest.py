"""Fixtures of the manifest: an application in a folder, booted in processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import typing as t
from pathlib import Path

import pytest

#: What each boot begins with.
PRELUDE = """\
import json, sys
from {package} import create_app, ecotone
app = create_app()
state = app.extensions["ecotone"]
def modules():
    return sorted(n for n in sys.modules if n.startswith("{package}."))
def failing(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__ + ": " + str(error)
result = None
with app.app_context():
{code}
print(json.dumps(result))
"""

FACTORY = """\
from flask import Flask
from flask_ecotone import Ecotone

ecotone = Ecotone()

def create_app():
    app = Flask(__name__)
    ecotone.init_app(app)
    return app
"""

#: A handler ``NAME`` in a module of that name.
HANDLER = """\
from flask_ecotone import command_handler

@command_handler("{name}")
def {name}() -> str:
    return "{name}"
"""


class Site:
    """A folder with a package, which is booted in processes of their own."""

    def __init__(self, folder: Path, package: str = "small") -> None:
        self.folder = folder
        self.package = package
        self.environment = {"ECOTONE_ENVIRONMENT": "production"}

    @property
    def instance(self) -> Path:
        return self.folder / "instance" / "ecotone"

    @property
    def manifest(self) -> Path:
        return self.instance / f"ecotone-{self.package}.json"

    def content(self) -> dict[str, t.Any]:
        """Read the manifest."""
        return t.cast("dict[str, t.Any]", json.loads(self.manifest.read_text()))

    def write(self, name: str, source: str) -> Path:
        """Write a module of the package."""
        file = self.folder / self.package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(source))
        return file

    def write_handlers(self, *names: str) -> None:
        """Write modules with one handler each, that has the name of the module."""
        for name in names:
            self.write(f"{name}.py", HANDLER.format(name=name))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start Python beside the package, with warnings as errors."""
        inherited = {k: v for k, v in os.environ.items() if "ECOTONE" not in k}
        inherited.pop("APP_ENV", None)
        return subprocess.Popen(
            [sys.executable, "-W", "error", *arguments],
            cwd=self.folder,
            env={
                **inherited,
                "NO_COLOR": "1",
                # An edit within the same second must not be hidden by bytecode.
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONPATH": str(self.folder),
                **self.environment,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def script(self, code: str) -> tuple[str, str]:
        """Return the arguments of Python that boot the package and run code in it."""
        indented = textwrap.indent(textwrap.dedent(code), "    ")
        return "-c", PRELUDE.format(package=self.package, code=indented)

    def boot(self, code: str = "state.system", **environment: str) -> t.Any:
        """Boot the package, run code in an app context and return its ``result``."""
        found, errors = self.log(code, **environment)
        assert errors == ""
        return found

    def log(self, code: str = "state.system", **environment: str) -> t.Any:
        """Boot the package like ``boot``, and return what was logged as well."""
        process = self.start(*self.script(code), **environment)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return json.loads(output), errors

    def flask(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run ``flask`` and return its exit code and what it printed."""
        process = self.start(
            "-m", "flask", "--app", self.package, *arguments, **environment
        )
        output, errors = process.communicate(timeout=60)
        return process.returncode, output + errors


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A package ``small`` with nothing but a factory."""
    found = Site(tmp_path)
    found.write("__init__.py", FACTORY)
    return found
