"""Services, metadata, logs, environment variables and the end of a context."""

from __future__ import annotations

import logging
import typing as t
from abc import ABC
from abc import abstractmethod

import pytest
import sqlalchemy as sa
import svcs
import svcs.flask
from flask import Flask
from flask import request
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ServiceNotFoundError

NewApp = t.Callable[..., tuple[Flask, Ecotone]]


class Greeting(ABC):
    """A service that only a factory can make."""

    @abstractmethod
    def greet(self, name: str) -> str:
        """Greet somebody."""


class PlainGreeting(Greeting):
    """The service."""

    def greet(self, name: str) -> str:
        return f"Hello {name}"


@command_handler("greet")
def greet(name: str, greeting: Greeting) -> str:
    return greeting.greet(name)


@query_handler("user")
def user() -> t.Any:
    return current_message.headers.get("user")


def test_a_provided_service_is_injected(new_app: NewApp) -> None:
    """``provide`` registers a factory; it isn't called before somebody needs it."""
    calls: list[int] = []

    def make() -> Greeting:
        calls.append(1)
        return PlainGreeting()

    app, ecotone = new_app(greet)
    ecotone.provide(Greeting, make)
    with app.app_context():
        ecotone.compile()
        assert calls == []
        assert command_bus.send_with_routing("greet", "Ada") == "Hello Ada"
    assert calls == [1]


def test_a_provider_is_known_by_what_it_returns(new_app: NewApp) -> None:
    """``@ecotone.provider`` reads the type from the annotation, or says it is gone."""
    app, ecotone = new_app(greet)

    @ecotone.provider
    def greeting() -> Greeting:
        return PlainGreeting()

    with pytest.raises(ConfigurationError, match="Annotate it"):
        ecotone.provider(lambda: PlainGreeting())
    with app.app_context():
        assert command_bus.send_with_routing("greet", "Ada") == "Hello Ada"
        assert isinstance(ecotone.service(Greeting), PlainGreeting)


def test_the_services_argument_provides(new_app: NewApp) -> None:
    """Services may be given to the constructor, for all applications."""
    app = Flask("small")
    ecotone = Ecotone(app, packages=[], services={Greeting: PlainGreeting})
    ecotone.register(greet)
    with app.app_context():
        assert command_bus.send_with_routing("greet", "Ada") == "Hello Ada"


def test_the_svcs_registry_of_the_application_is_used() -> None:
    """An application that uses svcs keeps its registry, with what is in it."""
    app = Flask("small")
    registry = svcs.Registry()
    svcs.flask.init_app(app, registry=registry)
    registry.register_factory(Greeting, PlainGreeting)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(greet)
    with app.app_context():
        assert command_bus.send_with_routing("greet", "Ada") == "Hello Ada"
        assert svcs.flask.registry._get_current_object() is registry


def test_a_missing_service_fails_honestly_and_the_same_each_time(
    new_app: NewApp,
) -> None:
    """The application boots; the error names the type and how to provide it."""
    app, ecotone = new_app(greet)

    @app.post("/")
    def view() -> str:
        return str(command_bus.send_with_routing("greet", "Ada"))

    app.testing = True
    texts = []
    for _ in range(2):
        with pytest.raises(ServiceNotFoundError) as caught:
            app.test_client().post("/")
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "Greeting" in texts[0]
    assert "ecotone.provide(" in texts[0]
    app.testing = False
    assert app.test_client().post("/").status_code == 500


def test_metadata_providers_run_in_requests_only(new_app: NewApp) -> None:
    """Headers of the request are added in a request, and nowhere else."""
    app, ecotone = new_app(user)

    @ecotone.metadata_provider
    def from_request() -> dict[str, t.Any]:
        return {"user": request.headers["X-User"]}

    @app.get("/")
    def view() -> str:
        return str(query_bus.send_with_routing("user"))

    assert app.test_client().get("/", headers={"X-User": "ada"}).text == "ada"
    with app.app_context():
        assert query_bus.send_with_routing("user") is None


def test_explicit_metadata_wins(new_app: NewApp) -> None:
    """What the caller gives is stronger than what a provider gives."""
    app, ecotone = new_app(user)
    ecotone.metadata_provider(lambda: {"user": "from the provider"})
    with app.test_request_context("/"):
        assert query_bus.send_with_routing("user") == "from the provider"
        given = {"user": "from the caller"}
        assert query_bus.send_with_routing("user", metadata=given) == given["user"]


def test_messages_are_logged_on_the_logger_of_the_application(
    new_app: NewApp, caplog: pytest.LogCaptureFixture
) -> None:
    """First what is sent, then who handles it, on a child of ``app.logger``."""
    app, _ = new_app(query_handler("getAmount")(lambda: 10), name="ledger")
    caplog.set_level(logging.INFO, "ledger.ecotone")
    with app.app_context():
        query_bus.send_with_routing("getAmount")
    assert {record.name for record in caplog.records} == {"ledger.ecotone"}
    sent, executed = caplog.messages
    assert sent == "Sending Query Message with: getAmount."
    assert executed.startswith("Executing Query Handler ")


def test_logging_configured_after_init_app_counts(new_app: NewApp) -> None:
    """``init_app`` doesn't touch ``app.logger``, which would give it a handler."""
    app, _ = new_app(user, name="unlogged")
    assert "logger" not in vars(app)
    with app.app_context():
        query_bus.send_with_routing("user")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), ("1", True), ("on", True), ("false", False), ("0", False)],
)
def test_environment_variables_fill_what_is_unset(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, text: str, expected: bool
) -> None:
    """ "false" is false; and what the application sets itself wins."""
    monkeypatch.setenv("ECOTONE_TEST", text)
    app, _ = new_app(user)
    assert app.extensions["ecotone"].config.test is expected
    other, _ = new_app(user, ECOTONE_TEST=not expected)
    assert other.extensions["ecotone"].config.test is not expected


def test_numbers_and_lists_from_the_environment(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are parsed, lists are split at commas."""
    monkeypatch.setenv("ECOTONE_INSTANT_RETRIES", "3")
    monkeypatch.setenv("ECOTONE_NAMESPACES", "crm, shop.orders")
    monkeypatch.setenv("ECOTONE_SERVICE_NAME", "shop")
    config = new_app(user)[0].extensions["ecotone"].config
    assert config.instant_retries == 3
    assert config.namespaces == ("crm", "shop.orders")
    assert config.service_name == "shop"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ECOTONE_TEST", "perhaps"),
        ("ECOTONE_INSTANT_RETRIES", "many"),
        ("ECOTONE_INSTANT_RETRIES", -1),
        ("ECOTONE_HANDLER_COMMIT", "never"),
    ],
)
def test_a_wrong_value_is_named(new_app: NewApp, name: str, value: t.Any) -> None:
    """A misspelled value isn't taken for false, and ``init_app`` still works."""
    app, _ = new_app(user, **{name: value})
    with app.app_context():
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=f"{name} is {value!r}"):
                query_bus.send_with_routing("user")


def test_the_fingerprint_of_the_configuration(new_app: NewApp) -> None:
    """Equal configurations have one fingerprint, others another."""

    def fingerprint(**config: t.Any) -> str:
        return str(new_app(user, **config)[0].extensions["ecotone"].config_hash)

    assert fingerprint() == fingerprint()
    assert fingerprint() != fingerprint(ECOTONE_INSTANT_RETRIES=1)


def test_buses_through_proxies_in_views(new_app: NewApp) -> None:
    """A view imports the proxies and uses them like the buses."""

    @command_handler("add")
    def add(numbers: list[int]) -> int:
        return sum(numbers)

    app, ecotone = new_app(add)

    @app.post("/")
    def view() -> dict[str, t.Any]:
        first = command_bus.send_with_routing("add", [1, 2])
        return {"sum": ecotone.get(CommandBus).send_with_routing("add", [first, 3])}

    assert app.test_client().post("/").json == {"sum": 6}


def stale_app(url: str) -> tuple[Flask, SQLAlchemy]:
    """Return an application whose own teardown fails once it is told to."""
    app, db = Flask("stale"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])

    @command_handler("write")
    def write() -> bool:
        marked = "mark" in db.session.info
        db.session.info["mark"] = True
        db.session.execute(sa.text("SELECT 1"))
        return marked

    ecotone.register(write)

    @app.teardown_appcontext
    def fail(error: BaseException | None) -> None:
        raise OSError("teardown failed")

    return app, db


def test_a_failing_teardown_leaves_no_session_to_others(sqlite_url: str) -> None:
    """Another context never begins with the session of one that has ended badly."""
    app, db = stale_app(sqlite_url)
    answers: list[bool] = []
    for _ in range(50):
        with pytest.raises(OSError, match="teardown failed"):
            with app.app_context():
                answers.append(command_bus.send_with_routing("write"))
    assert answers == [False] * 50
    assert len(db.session.registry.registry) <= 1
    db.session.registry.registry.clear()
