"""Which modules are looked through, and how often."""

from __future__ import annotations

import json
import sys
import typing as t

import pytest
from flask import Blueprint
from flask import Flask

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import query_bus
from flask_ecotone.errors import DiscoveryError
from flask_ecotone.errors import NoHandlerError

from .conftest import Run


@pytest.mark.usefixtures("apps")
def test_handlers_are_found_without_configuration() -> None:
    """The package of the application is scanned, sub-packages included."""
    from sampleapp import create_app

    app = create_app()
    with app.app_context():
        assert query_bus.send_with_routing("app.wasHandled") is False
        assert command_bus.send_with_routing("app.ping") == "pong"
        # The service of the handler lives as long as the application.
        assert query_bus.send_with_routing("app.wasHandled") is True
        answer = command_bus.send_with_routing("order.cancel", "o-1")
        assert answer == "o-1 is cancelled"
    assert app.test_client().get("/handled").text == "True"


@pytest.mark.usefixtures("apps")
def test_tests_migrations_and_main_are_not_imported() -> None:
    """Modules that hold no handlers, and whose import has effects, are left alone."""
    from sampleapp import create_app

    with create_app().app_context():
        command_bus.send_with_routing("app.ping")
    for name in ("tests", "migrations", "__main__"):
        assert f"sampleapp.{name}" not in sys.modules


@pytest.mark.usefixtures("apps")
def test_the_package_of_a_blueprint_is_scanned() -> None:
    """A bounded context brings its handlers along with its blueprint."""
    from shop import create_app

    assert create_app().test_client().post("/greet/Ada").text == "Hello Ada"


@pytest.mark.usefixtures("apps")
def test_the_module_of_an_installed_blueprint_is_read_alone() -> None:
    """An installed package isn't walked: what it imports is not ours to run."""
    app = Flask("crm")
    app.register_blueprint(Blueprint("foreign", "svcs.flask"))
    Ecotone(app)
    imported = set(sys.modules)
    with app.app_context():
        assert command_bus.send_with_routing("crm.greet", "Ada") == "Hello Ada"
    assert not any(name.startswith("svcs.") for name in set(sys.modules) - imported)


@pytest.mark.usefixtures("apps")
def test_named_packages_are_scanned_instead() -> None:
    """``packages=`` replaces what would be found by itself."""
    from sampleapp import create_app  # noqa: F401

    app = Flask("sampleapp")
    Ecotone(app, packages=["crm", "sampleapp.orders"])
    with app.app_context():
        assert command_bus.send_with_routing("crm.greet", "Ada") == "Hello Ada"
        assert command_bus.send_with_routing("order.cancel", "1") == "1 is cancelled"
        with pytest.raises(NoHandlerError):
            command_bus.send_with_routing("app.ping")


@pytest.mark.usefixtures("apps")
def test_namespaces_can_be_configured() -> None:
    """ECOTONE_NAMESPACES names packages for one application."""
    app = Flask("sampleapp")
    app.config["ECOTONE_NAMESPACES"] = ["crm"]
    Ecotone(app)
    with app.app_context():
        assert command_bus.send_with_routing("crm.greet", "Ada") == "Hello Ada"
        with pytest.raises(NoHandlerError):
            command_bus.send_with_routing("app.ping")


@pytest.mark.usefixtures("apps")
def test_the_scan_can_be_switched_off() -> None:
    """Without ECOTONE_LOAD_APP_NAMESPACES only what was registered is there."""
    app = Flask("sampleapp")
    app.config["ECOTONE_LOAD_APP_NAMESPACES"] = False
    ecotone = Ecotone(app)
    ecotone.register(command_handler("extra")(lambda: "extra"))
    with app.app_context():
        assert command_bus.send_with_routing("extra") == "extra"
        assert len(ecotone.compile().endpoints) == 1


@pytest.mark.usefixtures("apps")
def test_what_is_registered_comes_besides_what_is_scanned() -> None:
    """``register`` adds; registering what the scan finds anyway changes nothing."""
    import crm.handlers

    app = Flask("crm")
    ecotone = Ecotone(app)
    ecotone.register(command_handler("extra")(lambda: "extra"), crm.handlers.greet)
    with app.app_context():
        assert command_bus.send_with_routing("extra") == "extra"
        assert command_bus.send_with_routing("crm.greet", "Ada") == "Hello Ada"


def test_a_misspelled_package_is_named() -> None:
    """The error offers the package that was probably meant."""
    app = Flask("small")
    Ecotone(app, packages=["sqlalchemmy"])
    with app.app_context():
        with pytest.raises(DiscoveryError, match="Did you mean 'sqlalchemy'"):
            command_bus.send_with_routing("ping")


def endpoints(output: str) -> list[dict[str, t.Any]]:
    """Return what ``flask ecotone list --json`` printed."""
    found: list[dict[str, t.Any]] = json.loads(output)
    return found


def test_a_script_run_by_name_has_its_handlers_once(flask: Run) -> None:
    """``flask --app script`` finds the handlers of the single file."""
    found = endpoints(flask("script", "ecotone", "list", "--json").stdout)
    assert [e["handler"] for e in found] == ["script:greet"]


@pytest.mark.parametrize("arguments", [["script.py"], ["-m", "script"]])
def test_a_script_run_as_main_has_its_handlers_once(
    run: Run, arguments: list[str]
) -> None:
    """The script is ``__main__`` then, and isn't imported a second time."""
    finished = run(*arguments)
    assert finished.stderr == ""
    assert finished.stdout.splitlines() == ["Hello Ada", "1"]


def test_a_module_of_a_package_run_as_main_is_not_imported_again(run: Run) -> None:
    """``python -m moduleapp.wsgi`` is known by two names and has one set of classes."""
    finished = run("-m", "moduleapp.wsgi")
    assert finished.stderr == ""
    assert finished.stdout.splitlines() == ["Hello Ada", "2"]
