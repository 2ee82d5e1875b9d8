"""When a manifest is written, when it is believed, and what happens if it is wrong."""

from __future__ import annotations

import json
import os
import typing as t

import pytest

from .conftest import HANDLER
from .conftest import Site

SEND = 'result = failing(lambda: ecotone.command_bus.send_with_routing("{}"))'


def test_warm_boot_neither_scans_nor_hashes(site: Site) -> None:
    """In production a boot reads the manifest, and no source or digest of it."""
    site.write_handlers("first", "second")
    spied = """
        import hashlib, pkgutil, importlib.util
        called = []
        def spy(place, name):
            original = getattr(place, name)
            def watch(*arguments, **more):
                called.append(name)
                return original(*arguments, **more)
            setattr(place, name, watch)
        spy(hashlib, "sha256")
        spy(pkgutil, "iter_modules")
        spy(importlib.util, "find_spec")
        state.system, state.config_hash
        result = [ecotone.command_bus.send_with_routing("first"), sorted(set(called))]
        """

    assert site.boot(spied) == ["first", ["iter_modules", "sha256"]]
    assert site.boot(spied) == ["first", []]


def test_manifest_is_trusted_until_it_is_cleared(site: Site) -> None:
    """A boot in production doesn't look for new handlers, or for other packages."""
    site.write_handlers("ping")
    assert site.boot(SEND.format("ping")) == "ping"
    site.write_handlers("pong")
    elsewhere = {"ECOTONE_NAMESPACES": "json"}

    assert site.boot(SEND.format("ping"), **elsewhere) == "ping"
    assert site.boot(SEND.format("pong")).startswith("NoHandlerError: ")
    assert site.flask("ecotone", "cache", "clear")[0] == 0
    assert site.boot(SEND.format("ping"), **elsewhere).startswith("NoHandlerError: ")
    assert site.flask("ecotone", "cache", "clear")[0] == 0
    assert site.boot(SEND.format("pong")) == "pong"


@pytest.mark.parametrize(
    ("environment", "is_written"),
    [
        ({"ECOTONE_ENVIRONMENT": "production"}, True),
        ({"ECOTONE_ENVIRONMENT": "prod"}, True),
        ({"ECOTONE_ENVIRONMENT": "", "APP_ENV": "production"}, True),
        ({"ECOTONE_ENVIRONMENT": "", "APP_ENV": "local"}, False),
        ({"ECOTONE_ENVIRONMENT": ""}, False),
        ({"ECOTONE_ENVIRONMENT": "staging"}, False),
        ({"ECOTONE_CACHE_CONFIGURATION": "no"}, False),
        ({"ECOTONE_ENVIRONMENT": "", "ECOTONE_CACHE_CONFIGURATION": "yes"}, True),
        ({"FLASK_DEBUG": "1"}, False),
        ({"FLASK_TESTING": "true"}, False),
    ],
    ids=[
        *("production", "prod", "APP_ENV=production", "APP_ENV=local", "unset"),
        *("staging", "off", "on", "debug", "testing"),
    ],
)
def test_manifest_is_written_where_somebody_says_production(
    environment: dict[str, str], is_written: bool, site: Site
) -> None:
    """Only production that somebody asked for has a manifest by default."""
    site.write_handlers("first")
    site.write(
        "__init__.py",
        """
        from flask import Flask
        from flask_ecotone import Ecotone
        ecotone = Ecotone()

        def create_app():
            app = Flask(__name__)
            app.config.from_prefixed_env()
            ecotone.init_app(app)
            return app
        """,
    )

    site.boot(**environment)

    assert site.manifest.exists() is is_written
    assert site.instance.exists() is is_written


@pytest.mark.parametrize(
    "environment",
    [
        {"FLASK_DEBUG": "1"},
        {"ECOTONE_ENVIRONMENT": "staging"},
        {"ECOTONE_ENVIRONMENT": "dev"},
    ],
    ids=["debug", "staging", "dev"],
)
def test_elsewhere_manifests_are_kept_by_content(
    environment: dict[str, str], site: Site
) -> None:
    """Outside of production a manifest is for the very source it was made from."""
    environment = {**environment, "ECOTONE_CACHE_CONFIGURATION": "true"}
    site.write_handlers("first")
    site.write("deep/__init__.py", "")
    file = site.write("deep/second.py", HANDLER.format(name="second"))

    def boot(code: str = "state.system; result = modules()") -> t.Any:
        return site.log(code, **environment)[0]

    def manifests() -> list[str]:
        return sorted(str(p.parent.name) for p in site.instance.rglob("*.json"))

    assert len(boot()) == 3
    assert boot() == []
    assert len(manifests()) == 1
    assert not site.manifest.exists()

    file.write_text(file.read_text().replace('("second")', '("edited")'))
    assert boot(SEND.format("edited")) == "second"
    assert len(manifests()) == 2

    file.rename(site.folder / "small" / "second.py")
    assert len(boot()) == 3
    assert boot() == []
    assert len(manifests()) == 3


def test_elsewhere_a_manifest_is_for_one_environment(site: Site) -> None:
    """Nor is it for other configuration, other releases or another Python (L-44)."""
    site.write_handlers("first")
    kept = {"ECOTONE_CACHE_CONFIGURATION": "true"}
    released = """
        import importlib.metadata
        importlib.metadata.version = lambda name: "99.9"
        state.system
        """
    renewed = """
        sys.version = "4.0"
        state.system
        """
    boots: list[tuple[str, dict[str, str]]] = [
        ("state.system", {"ECOTONE_ENVIRONMENT": "dev"}),
        ("state.system", {"ECOTONE_ENVIRONMENT": "staging"}),
        ("state.system", {"ECOTONE_ENVIRONMENT": "dev", "ECOTONE_SERVICE_NAME": "s"}),
        (released, {"ECOTONE_ENVIRONMENT": "dev"}),
        (renewed, {"ECOTONE_ENVIRONMENT": "dev"}),
    ]

    for number, (code, environment) in enumerate(boots, 1):
        for _ in range(2):
            site.log(code, **kept, **environment)
            assert len(list(site.instance.rglob("*.json"))) == number


def test_manifest_that_is_removed_is_made_again_in_the_same_process(
    site: Site,
) -> None:
    """Nothing about it is remembered from one application to the next (L-44)."""
    site.write_handlers("first")

    found = site.boot(
        """
        import shutil
        from pathlib import Path
        send = lambda key: ecotone.command_bus.send_with_routing(key)
        file = Path(app.instance_path, "ecotone", "ecotone-small.json")
        result = [send("first"), file.exists()]
        shutil.rmtree(file.parent)
        result += [send("first"), file.exists()]
        with create_app().app_context():
            result += [send("first"), file.exists()]
        """
    )

    assert found == ["first", True, "first", False, "first", True]


def test_few_manifests_are_kept_by_content(site: Site) -> None:
    """Of the manifests of earlier source the newest ten are kept."""
    site.write_handlers("first")
    for number in range(12):
        folder = site.instance / f"{number:016x}"
        folder.mkdir(parents=True)
        (folder / site.manifest.name).touch()
        os.utime(folder, (number, number))
    (site.instance / "mine").mkdir()

    site.boot(ECOTONE_ENVIRONMENT="dev", ECOTONE_CACHE_CONFIGURATION="true")

    kept = sorted(path.name for path in site.instance.iterdir())
    assert len(kept) == 11
    assert {f"{number:016x}" for number in range(3, 12)} < {*kept}


def test_testing_does_not_use_the_manifest_of_production(site: Site) -> None:
    """A test suite whose shell says production sees what is in the source."""
    site.write_handlers("first")
    site.boot()
    site.write_handlers("second")
    code = """
        app = create_app()
        app.testing = True
        with app.app_context():
            result = ecotone.command_bus.send_with_routing("second")
        """

    assert site.boot(code) == "second"
    assert site.boot(code, ECOTONE_CACHE_CONFIGURATION="true") == "second"
    assert site.boot(SEND.format("second")).startswith("NoHandlerError")


def test_failed_compile_writes_nothing(site: Site) -> None:
    """There is a manifest only of what works."""
    site.write(
        "odd.py",
        """
        from flask_ecotone import command_handler

        @command_handler
        def handle(command: int) -> None: ...
        """,
    )

    assert "HandlerSignatureError" in site.boot("result = failing(ecotone.compile)")
    assert not site.instance.exists()


@pytest.mark.parametrize("wrong", ["removed", "renamed", "raising"])
@pytest.mark.parametrize("kind", ["deferred", "eager"])
def test_stale_manifest_says_so(kind: str, wrong: str, site: Site) -> None:
    """What can't be loaded any more is named, with where, why and what to do."""
    mark = "console_command" if kind == "eager" else "command_handler"
    source = f"""
        from flask_ecotone import {mark}

        @{mark}("old")
        def old() -> None: ...
        """
    file = site.write("old.py", source)
    site.boot()
    name = "small.old"
    if wrong == "removed":
        file.unlink()
        cause = "ModuleNotFoundError: No module named 'small.old'"
    elif wrong == "raising":
        file.write_text("import nowhere")
        cause = "ModuleNotFoundError: No module named 'nowhere'"
    elif kind == "eager":
        file.rename(file.with_name("new.py"))
        cause = "ModuleNotFoundError: No module named 'small.old'"
    else:
        file.write_text(file.read_text().replace("def old", "def new"))
        name = "small.old:old"
        cause = "no handler in its module has the id 'old'."

    found = site.boot(
        """
        call = lambda: ecotone.command_bus.send_with_routing("old")
        result = [failing(call), failing(call)]
        """
    )

    expected = (
        f"ConfigurationError: Ecotone's manifest references {name!r}, which can no"
        " longer be loaded. If it was removed or renamed since the manifest was built,"
        f" the production manifest at {str(site.instance)!r} is stale: clear it with"
        " 'flask ecotone cache clear', or delete that directory, and boot again. If the"
        " error persists after clearing, the name is referenced by your own code."
        f" Original error: {cause}"
    )
    assert found == [expected, expected]


def test_manifest_is_not_blamed_where_none_is_used(site: Site) -> None:
    """An error of a boot that scans doesn't mention a manifest."""
    site.write("odd.py", "import nowhere")
    call = "result = [failing(ecotone.compile), failing(ecotone.compile)]"

    first, second = site.boot(call)

    assert first.startswith("DiscoveryError: Could not import the module small.odd")
    assert "manifest" not in first
    assert second == first


@pytest.mark.parametrize("damage", ["cut", "text", "nested", "list", "types", "format"])
def test_unreadable_manifest_is_written_anew(damage: str, site: Site) -> None:
    """What isn't a manifest of this version is ignored, and replaced."""
    site.write_handlers("first")
    site.boot()
    sound = site.manifest.read_bytes()
    content = site.content()
    damaged = {
        "cut": sound[: len(sound) // 2],
        "text": b"\xff\xfe no JSON",
        "nested": b"[" * 100_000,
        "list": b"[]",
        "types": json.dumps({**content, "eager": "small.first"}).encode(),
        "format": json.dumps({**content, "format": 0}).encode(),
    }
    site.manifest.write_bytes(damaged[damage])

    assert site.boot(SEND.format("first")) == "first"
    assert site.manifest.read_bytes() == sound


@pytest.mark.parametrize("key", ["version", "application"])
def test_manifest_of_somebody_else_is_ignored(key: str, site: Site) -> None:
    """A manifest of another application, or another release, is replaced."""
    site.write_handlers("first")
    site.boot()
    sound = site.manifest.read_bytes()
    other = {**site.content(), key: "another", "deferred": []}
    site.manifest.write_text(json.dumps(other))

    assert site.boot(SEND.format("first")) == "first"
    assert site.manifest.read_bytes() == sound


def test_manifest_is_not_rewritten_on_a_warm_boot(site: Site) -> None:
    """A boot that reads the manifest leaves the file alone."""
    site.write_handlers("first")
    site.boot()
    before = site.manifest.stat()

    site.boot("state.system.endpoints")

    after = site.manifest.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_check_reads_the_source(site: Site) -> None:
    """``flask ecotone check`` finds what a manifest hides, and renews it."""
    site.write_handlers("first")
    assert site.flask("ecotone", "check") == (0, "1 endpoint, no errors.\n")
    site.write_handlers("second")
    assert site.flask("ecotone", "list")[1].count("small.") == 1

    assert site.flask("ecotone", "check") == (0, "2 endpoints, no errors.\n")
    assert site.boot(SEND.format("second")) == "second"

    site.write("third.py", "import nowhere")
    code, output = site.flask("ecotone", "check")
    assert (code, "Could not import the module small.third" in output) == (1, True)


def test_check_reads_the_source_after_a_warm_compile(site: Site) -> None:
    """Also an application that compiled itself from a manifest is checked."""
    site.write_handlers("first")
    failing_fast = {"ECOTONE_FAIL_FAST": "true"}
    site.boot(**failing_fast)
    site.write_handlers("second")

    found = site.flask("ecotone", "check", **failing_fast)

    assert found == (0, "2 endpoints, no errors.\n")


def test_script_has_no_manifest(site: Site) -> None:
    """A script is ``__main__`` only while it runs: nothing is kept of it."""
    site.write(
        "../script.py",
        """
        from flask import Flask
        from flask_ecotone import command_handler, Ecotone

        app = Flask(__name__)
        ecotone = Ecotone(app)

        @command_handler("ping")
        def ping() -> str:
            return "pong"

        with app.app_context():
            print(ecotone.command_bus.send_with_routing("ping"))
        """,
    )

    assert site.start("script.py").communicate(timeout=60) == ("pong\n", "")
    assert not site.instance.exists()


def test_two_applications_of_a_folder_have_their_own(site: Site) -> None:
    """Applications with one instance folder don't read each other's manifest."""
    site.write_handlers("first")
    site.write(
        "admin.py",
        """
        from flask import Flask
        from flask_ecotone import Ecotone
        ecotone = Ecotone(packages=["managing"])

        def create_app():
            app = Flask(__name__)
            ecotone.init_app(app)
            return app
        """,
    )
    site.write(
        "../managing.py",
        """
        from flask_ecotone import command_handler

        @command_handler("manage")
        def manage() -> str:
            return "managed"
        """,
    )
    code = """
        from small.admin import create_app as create_admin, ecotone as admin
        result = [ecotone.command_bus.send_with_routing("first")]
        with create_admin().app_context():
            result.append(admin.command_bus.send_with_routing("manage"))
        """

    assert site.boot(code) == ["first", "managed"]
    assert site.boot(code) == ["first", "managed"]
    assert sorted(path.name for path in site.instance.iterdir()) == [
        "ecotone-small.admin.json",
        "ecotone-small.json",
    ]
