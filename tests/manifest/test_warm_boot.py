"""A boot from a manifest is like one that scans, for everything there is."""

from __future__ import annotations

import json
import shutil
import typing as t
from pathlib import Path

import pytest

from .conftest import Site

HERE = Path(__file__).parent

#: What each step of the journey answers, and what handlers wrote meanwhile.
EXPECTED = {
    "registered": ["registered"],
    "business interface": ["two of 2"],
    "command": [
        "Order milk: 2.50 at noon",
        *("audited", "reserved", "arrived", "any object", "fragile", "packed"),
        "ordered",
    ],
    "subclass": [
        "UrgentOrder tea: 2.50 at noon",
        *("audited", "reserved", "arrived", "any object", "fragile", "packed"),
        "ordered",
    ],
    "query": [0],
    "required interceptor": [2, "checked", "audited"],
    "event by class": [
        None,
        *("refilled", "any object", "stock by glob", "reordered tea", "warned"),
    ],
    "event by name": [
        None,
        *("refilled", "any object", "stock by glob", "reordered tea", "warned"),
    ],
    "event by glob": [None, "stock by glob"],
    "instant retry": [3],
    "without transaction": [False],
    "environment": ["production"],
    "mixin": ["Welcome from Welcome"],
    "new aggregate": [1, "inserted"],
    "aggregate": ["Ada: 0 items"],
    "services made once": 1,
}
#: Modules that are imported at each boot, and those that they import.
EAGER = {
    *("auditing", "converting", "interfaces", "journal", "listening", "maintaining"),
    *("messages", "models", "parts", "shipping", "views"),
}


class Journey(t.NamedTuple):
    """What the journey found at a boot that scanned, and at the next one."""

    cold: dict[str, t.Any]
    warm: dict[str, t.Any]
    site: Site


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """Take the journey twice, each time in a new process."""
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(HERE / "shop", folder / "shop")
    shutil.copy(HERE / "journey.py", folder)
    (folder / "instance").mkdir()
    site = Site(folder, "shop")
    found = []
    for _ in range(2):
        process = site.start("journey.py")
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
        found.append(json.loads(output))
    return Journey(*found, site)


@pytest.mark.parametrize("step", EXPECTED)
def test_everything_works_from_a_manifest(step: str, journey: Journey) -> None:
    """Each feature does the same at a boot that scans and at the next one."""
    assert journey.cold[step] == EXPECTED[step]
    assert journey.warm[step] == EXPECTED[step]


def test_warm_boot_imports_what_others_depend_on(journey: Journey) -> None:
    """Modules with nothing but handlers wait; the others are there."""
    everything = {path.stem for path in (HERE / "shop").glob("*.py")} - {"__init__"}

    assert journey.cold["modules at boot"] == sorted(f"shop.{n}" for n in everything)
    assert journey.warm["modules at boot"] == sorted(f"shop.{n}" for n in EAGER)


def test_all_endpoints_can_be_listed(journey: Journey) -> None:
    """A list of endpoints loads what waits, and has them in the order of a scan."""
    assert len(journey.cold["endpoints"]) == 23
    assert journey.warm["endpoints"] == journey.cold["endpoints"]
    assert journey.warm["modules at the end"] == journey.cold["modules at the end"]


def test_configuration_hash_is_the_same(journey: Journey) -> None:
    """The fingerprint of the configuration is there, and doesn't change."""
    assert journey.cold["configuration"]
    assert journey.warm["configuration"] == journey.cold["configuration"]


def test_factories_run_at_run_time(journey: Journey) -> None:
    """A service isn't kept: its factory runs when it is first needed, once a boot."""
    assert journey.warm["services at boot"] == 0
    assert journey.warm["services made once"] == 1


def test_help_lists_console_commands(journey: Journey) -> None:
    """``flask --help`` knows the console commands without the modules that wait."""
    site = journey.site
    code = "import sys; from flask.cli import main"
    code += "\nsys.argv[1:] = ['--app', 'shop', '--help']"
    code += "\ntry: main()\nexcept SystemExit: pass"
    code += "\nprint(sorted(n for n in sys.modules if n == 'shop.ordering'))"
    output, errors = site.start("-c", code).communicate(timeout=60)

    assert errors == ""
    assert "Commands of orders." in output
    assert output.splitlines()[-1] == "[]"


def test_console_command_runs(journey: Journey) -> None:
    """A console command sends to a module that waited for it."""
    assert journey.site.flask("orders", "repeat", "milk") == (
        0,
        "Order milk: 2.50 at noon\n",
    )


def test_list_command_shows_everything(journey: Journey) -> None:
    """``flask ecotone list`` shows modules that wait like all others."""
    code, output = journey.site.flask("ecotone", "list", "--json")

    assert code == 0
    assert json.loads(output) == journey.cold["endpoints"]
