"""Read the examples out of a page, and run them.

A ``python`` block with a caption is a file of that name. Every other ``python`` block
runs in one module for the page, as if all of it had been written before the
application started: each block gets a new application, with the names ``app``, ``db``
and ``ecotone`` that the quickstart explains, and runs in its context. A ``console``
block is a session: its commands run, and must print what the page says.

Comments of a page are for this module:

.. code-block:: rst

    .. new example      what follows is another module; imports are kept
    .. setup            the indented code runs before the next block
    .. check            the indented code runs after the last block, in its application
    .. not run          the next block is only shown
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import textwrap
import typing as t
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone

#: What the pages show in place of the folder that the examples run in.
SHOWN_FOLDER = "/home/ada/shop"

_DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: (?P<language>\w+)$")
_COMMENT = re.compile(r"^(?P<indent> *)\.\. (?P<name>new example|setup|check|not run)$")
_OPTION = re.compile(r"^:(?P<name>[\w-]+):(?: (?P<value>.+))?$")
_FENCE = re.compile(r"^```(?P<language>\w*)$")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page that means something here."""

    kind: str
    text: str
    line: int
    caption: str | None = None


def read_rst(path: Path) -> list[Block]:
    """Return the blocks of a page, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks = []
    for number, line in enumerate(lines):
        found = _DIRECTIVE.match(line) or _COMMENT.match(line)
        if found is None:
            continue
        indent = len(found["indent"])
        body = list(_body(lines[number + 1 :], indent))
        options: dict[str, str] = {}
        while body and (option := _OPTION.match(body[0].strip())):
            options[option["name"]] = option["value"]
            body.pop(0)
            number += 1
        while body and not body[0].strip():
            body.pop(0)
            number += 1
        kind = found.groupdict().get("language") or found.groupdict().get("name")
        text = textwrap.dedent("\n".join(body)).rstrip() + "\n"
        blocks.append(Block(kind or "", text, number + 2, options.get("caption")))
    return blocks


def read_markdown(path: Path, caption: str) -> list[Block]:
    """Return the fenced blocks of a page, in order.

    :param caption: The file that ``python`` blocks are.
    """
    blocks = []
    language: str | None = None
    body: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        fence = _FENCE.match(line)
        if fence is None:
            body.append(line)
        elif language is None:
            language, body = fence["language"] or "console", []
        else:
            text, name = "\n".join(body) + "\n", None
            if language == "python":
                name = caption
            blocks.append(Block(language, text, number - len(body) + 1, name))
            language = None
    return blocks


def _body(lines: t.Iterable[str], indent: int) -> t.Iterator[str]:
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            return
        yield line


class Runner:
    """Runs the blocks of one page in a folder."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path = path
        self._folder = folder
        self._imports: list[ast.stmt] = []
        self._app: Flask | None = None
        self._served = ""
        self._module: ModuleType
        self._start()

    def run(self, blocks: list[Block]) -> int:
        """Run the blocks and return how many were examples."""
        count = 0
        is_shown_only = False
        for block in blocks:
            if block.kind == "not run":
                is_shown_only = True
                continue
            if block.kind == "new example":
                self._start()
            elif is_shown_only:
                is_shown_only = False
            elif block.kind in ("python", "setup") and block.caption is None:
                self._new_app()
                self._execute(block)
                count += block.kind == "python"
            elif block.kind == "python":
                file = self._folder / t.cast(str, block.caption)
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a", encoding="utf-8") as stream:
                    stream.write(f"{block.text}\n\n")
                compile(block.text, str(file), "exec")
                count += 1
            elif block.kind == "check":
                self._execute(block)
            elif block.kind == "console":
                self._session(block)
                count += 1
        return count

    def close(self) -> None:
        """Forget the modules of the page."""
        for name in [n for n in sys.modules if n.startswith("docs_example_")]:
            del sys.modules[name]

    def _start(self) -> None:
        name = f"docs_example_{next(_numbers)}"
        module = self._module = sys.modules[name] = ModuleType(name)
        module.__file__ = str(self._path.with_suffix(f".{name}.py"))
        self._database = f"sqlite:///{self._folder / name}.sqlite"
        vars(module).update(db=SQLAlchemy(), ecotone=Ecotone())
        tree = ast.Module([*self._imports], [])
        exec(compile(tree, str(self._path), "exec"), vars(module))

    def _new_app(self) -> None:
        names = vars(self._module)
        app = self._app = names["app"] = Flask(self._module.__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = self._database
        names["db"].init_app(app)
        names["ecotone"].init_app(app)

    def _execute(self, block: Block) -> None:
        # With its own line numbers a failure points at the line of the page.
        source = "\n" * (block.line - 1) + block.text
        tree = ast.parse(source, str(self._path))
        names = vars(self._module)
        app = t.cast(Flask, self._app)
        with app.app_context():
            names["db"].create_all()
            exec(compile(tree, str(self._path), "exec", dont_inherit=True), names)
        for node in tree.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._imports.append(node)

    def _session(self, block: Block) -> None:
        for command, expected in _commands(block.text):
            words = shlex.split(command)
            if words[0] in ("pip", "tox", "git"):
                continue
            if words[0] == "flask" and words[-1] == "run":
                self._served = words[words.index("--app") + 1]
                continue
            if words[0] == "curl":
                printed = self._request(words[1:])
            else:
                printed = self._command(words)
            check_output(command, printed, expected)

    def _command(self, words: list[str]) -> str:
        path = filter(None, (str(self._folder), os.environ.get("PYTHONPATH")))
        environ = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": os.pathsep.join(path)}
        # As at a terminal: lines of both outputs come in the order they were written.
        environ["PYTHONUNBUFFERED"] = "1"
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environ[name] = value
        assert words[0] in ("flask", "python", "pytest"), words
        interpreter = [sys.executable] if words[0] == "python" else None
        found = subprocess.run(
            [*(interpreter or [sys.executable, "-m", words[0]]), *words[1:]],
            cwd=self._folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return found.stdout.replace(str(self._folder), SHOWN_FOLDER)

    def _request(self, words: list[str]) -> str:
        method, data = "GET", None
        while words[0].startswith("-"):
            option, value = words.pop(0), words.pop(0)
            if option == "-X":
                method = value
            else:
                assert option == "-d", option
                method, data = "POST", value
        path = words[0].partition("localhost:5000")[2]
        with imported(self._folder / f"{self._served}.py") as module:
            app = getattr(module, "app", None) or module.create_app()
            form = {"content_type": "application/x-www-form-urlencoded"}
            options = form if data is not None else {}
            response = app.test_client().open(path, method=method, data=data, **options)
        return t.cast(str, response.text)


@contextmanager
def imported(file: Path) -> t.Iterator[ModuleType]:
    """Import a file as ``flask --app`` does, and forget it afterwards."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[file.stem]


def _commands(session: str) -> t.Iterator[tuple[str, list[str]]]:
    command = ""
    expected: list[str] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:].split("  # ")[0], []
        elif line.strip():
            expected.append(line)
    if command:
        yield command, expected


def check_output(command: str, printed: str, expected: list[str]) -> None:
    """Compare lines; ``…`` stands for anything, and a line of it for any lines."""
    pattern = r"\s*".join(
        r".*?" if line.strip() == "…" else _line_pattern(line) for line in expected
    )
    if not re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL):
        shown = "\n".join(expected)
        raise AssertionError(f"$ {command}\nprinted:\n{printed}\nthe page:\n{shown}")


def _line_pattern(line: str) -> str:
    words = [re.escape(word).replace("…", r"[^\n]*?") for word in line.split()]
    return r"[^\S\n]+".join(words)
