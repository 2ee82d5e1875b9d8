"""The pages of the documentation tell the truth: their examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flask_ecotone
from flask_ecotone import configuration
from flask_ecotone import errors

from .pages import read_markdown
from .pages import read_rst
from .pages import Runner

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.rst"))

#: What is in the package ahead of its documentation.
LATER = {
    "ConsoleWriter",
    "console_command",
    "Option",
    "FetchMode",
    "sql_param",
    "SqlParam",
    "sql_query",
    "sql_write",
}

#: Pages that show no code of their own.
PROSE = {"architecture", "changes", "glossary", "guarantees", "api", "configuration"}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of a page runs, and prints what the page says."""
    monkeypatch.chdir(tmp_path)
    runner = Runner(page, tmp_path)

    try:
        count = runner.run(read_rst(page))
    finally:
        runner.close()

    assert count or page.stem in PROSE


def test_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the README answers its request as the README says."""
    monkeypatch.chdir(tmp_path)
    runner = Runner(ROOT / "README.md", tmp_path)

    try:
        assert runner.run(read_markdown(ROOT / "README.md", "hello.py")) >= 2
    finally:
        runner.close()


def test_readme_fits_on_a_screen() -> None:
    """The README stays short: the rest is documentation."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 80


def test_pages_show_few_examples_that_do_not_run() -> None:
    """Nearly every example runs: what is only shown is an exception."""
    blocks = [block for page in PAGES for block in read_rst(page)]
    assert sum(block.kind == "not run" for block in blocks) <= 5


def test_configuration_lists_every_key() -> None:
    """The configuration page has an entry for each key that is read, and no other."""
    source = Path(configuration.__file__).read_text(encoding="utf-8")
    page = (DOCS / "configuration.rst").read_text(encoding="utf-8")
    documented = re.findall(r"^\.\. data:: (ECOTONE_\w+)$", page, re.MULTILINE)
    read = set(re.findall(r'"(ECOTONE_\w+)"', source))

    assert sorted(documented) == sorted(read - LATER)


def test_api_has_every_exported_name() -> None:
    """The reference has an entry for each name of the package."""
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    entries = re.findall(r"^ *\.\. (?:auto)?\w+:: (?:\w+\.)*(\w+)", page, re.MULTILINE)
    exported = {
        name
        for name, value in vars(flask_ecotone).items()
        if not name.startswith("_") and type(value).__name__ != "module"
    }
    assert exported - LATER - set(entries) == set()


@pytest.mark.parametrize("name", ["errors", "api"])
def test_every_error_is_explained(name: str) -> None:
    """Each error of the package stands on the page."""
    page = (DOCS / f"{name}.rst").read_text(encoding="utf-8")
    named = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.EcotoneError)
    }
    assert {each for each in named if each not in page} == set()


@pytest.mark.parametrize("name", ["docs/architecture.rst", "CONTRIBUTING.md"])
def test_every_room_is_shown(name: str) -> None:
    """The description of the house names every room that there is."""
    page = (ROOT / name).read_text(encoding="utf-8")
    rooms = {
        path.stem
        for path in Path(flask_ecotone.__file__).parent.iterdir()
        if path.suffix in ("", ".py") and not path.stem.startswith("_")
    }
    assert {room for room in rooms if f"`{room}`" not in page} == set()


def test_contents_have_every_page() -> None:
    """No page is forgotten in the table of contents."""
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^    (\w+)$", index, re.MULTILINE))

    assert {page.stem for page in PAGES} - {"index"} == listed


def test_every_guarantee_has_its_tests() -> None:
    """Each promise names a test, and each test that is named is there."""
    page = (DOCS / "guarantees.rst").read_text(encoding="utf-8")
    promises = page.partition("What Is Not Promised")[0].split("\n-   ")[1:]
    proofs = [re.findall(r"``([\w/]+\.py)::(\w+)``", each) for each in promises]
    named = {proof for found in proofs for proof in found}

    assert all(proofs)
    assert {
        (file, name)
        for file, name in named
        if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")
    } == set()
