"""What ``init_app`` does, what it leaves for later, and when that happens."""

from __future__ import annotations

import threading
import typing as t

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

import flask_ecotone
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import current_ecotone
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import EventBus
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import DiscoveryError
from flask_ecotone.errors import DuplicateHandlerError

NewApp = t.Callable[..., tuple[Flask, Ecotone]]


@command_handler("ping")
def ping() -> str:
    return "pong"


def test_the_second_call_for_an_application_is_refused() -> None:
    """Like Flask-SQLAlchemy: one extension per application, said clearly."""
    ecotone = Ecotone(app := Flask(__name__))
    for again in (ecotone, Ecotone()):
        with pytest.raises(RuntimeError, match="already been registered"):
            again.init_app(app)


def test_nothing_is_imported_or_connected_by_init_app() -> None:
    """Packages that can't be imported and an unreachable database don't matter yet."""
    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg://nobody@127.0.0.1:1/x"
    db.init_app(app)
    Ecotone(app, packages=["no_such_package"])
    assert not app.extensions["ecotone"].is_compiled


def test_compiling_does_not_connect() -> None:
    """A worker may compile before it forks: no connection is taken for it."""
    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+psycopg://nobody@127.0.0.1:1/x"
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(ping)
    with app.app_context():
        ecotone.compile()
        assert command_bus.send_with_routing("ping") == "pong"
    assert app.extensions["ecotone"].is_compiled


def test_the_first_use_compiles(new_app: NewApp) -> None:
    """Whichever bus is used first, from then on the system is there."""
    app, ecotone = new_app(ping)
    state = app.extensions["ecotone"]
    assert not state.is_compiled
    with app.app_context():
        assert not current_message
        assert command_bus.send_with_routing("ping") == "pong"
        assert ecotone.compile() is state.system is current_ecotone.system
    assert state.is_compiled


def test_the_buses_are_of_their_types(new_app: NewApp) -> None:
    """The extension, the proxies and the services hand out the same buses."""
    app, ecotone = new_app(ping)
    with app.app_context():
        assert isinstance(ecotone.command_bus, CommandBus)
        assert isinstance(ecotone.query_bus, QueryBus)
        assert isinstance(ecotone.event_bus, EventBus)
        assert ecotone.get(CommandBus) is ecotone.command_bus
        assert ecotone.service(QueryBus) is ecotone.query_bus
        assert isinstance(command_bus, CommandBus)
        assert isinstance(query_bus, QueryBus)
        assert isinstance(event_bus, EventBus)


@pytest.mark.usefixtures("apps")
def test_a_business_interface_may_be_used_first() -> None:
    """A gateway compiles the system like a bus does, and shares it."""
    from sampleapp import create_app
    from sampleapp import ecotone
    from sampleapp.handlers import CounterGateway

    with create_app().app_context():
        gateway = ecotone.get(CounterGateway)
        command_bus.send_with_routing("counter.increment")
        assert gateway.get() == 1
        assert CounterGateway in type(gateway).__mro__
        assert gateway is ecotone.get(CounterGateway)


def test_many_threads_compile_once(new_app: NewApp) -> None:
    """All threads get the one system that the first of them compiled."""
    app, ecotone = new_app(ping)
    start = threading.Barrier(16)
    systems: list[object] = []
    answers: list[str] = []

    def work() -> None:
        with app.app_context():
            start.wait()
            answers.append(command_bus.send_with_routing("ping"))
            systems.append(ecotone.compile())

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["pong"] * 16
    assert len(set(map(id, systems))) == 1


def test_a_failing_compile_raises_the_same_error_each_time(new_app: NewApp) -> None:
    """The cause is named on every use; none of them says "compiling"."""
    twin = command_handler("ping", endpoint_id="twin")(lambda: None)
    app, ecotone = new_app(ping, twin)
    texts: list[str] = []
    uses: list[t.Callable[[], t.Any]] = [
        lambda: command_bus.send_with_routing("ping"),
        lambda: query_bus.send_with_routing("anything"),
        lambda: ecotone.compile(),
        lambda: ecotone.get(CommandBus),
        lambda: ecotone.command_bus,
    ]
    with app.app_context():
        for use in uses:
            with pytest.raises(DuplicateHandlerError) as caught:
                use()
            texts.append(str(caught.value))
    assert len(set(texts)) == 1
    assert "'ping' has 2 handlers" in texts[0]
    assert "compiling" not in texts[0]
    assert not app.extensions["ecotone"].is_compiled


@pytest.mark.usefixtures("apps")
def test_a_module_that_cannot_be_imported_is_named_each_time() -> None:
    """The error names the module and what went wrong in it."""
    from brokenapp import create_app

    with create_app().app_context():
        for _ in range(2):
            with pytest.raises(DiscoveryError) as caught:
                command_bus.send_with_routing("ping")
            text = str(caught.value)
            assert "Could not import the module brokenapp.handlers" in text
            assert "No module named 'no_such_library'" in text


@pytest.mark.usefixtures("apps")
def test_a_bus_used_while_modules_are_imported_is_refused() -> None:
    """The error says where, why, and where to use a bus instead."""
    from eager import create_app

    with create_app().app_context():
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught:
                command_bus.send_with_routing("ping")
            assert "the module eager.warm_up" in str(caught.value)
            assert "Use buses and gateways inside functions" in str(caught.value)


def test_fail_fast_compiles_in_init_app() -> None:
    """With ECOTONE_FAIL_FAST an unsound application doesn't start."""
    app = Flask(__name__)
    app.config["ECOTONE_FAIL_FAST"] = True
    with pytest.raises(DiscoveryError, match="no_such_package"):
        Ecotone(app, packages=["no_such_package"])

    other = Flask(__name__)
    other.config["ECOTONE_FAIL_FAST"] = True
    Ecotone(other, packages=[])
    assert other.extensions["ecotone"].is_compiled


def test_configuration_set_after_init_app_counts(new_app: NewApp) -> None:
    """The configuration is read at the first use, like the handlers."""
    from flask_ecotone import environment

    @environment("test")
    @command_handler("probe")
    def probe() -> str:
        return "probed"

    app, _ = new_app(ping, probe)
    app.config.update(TESTING=True)
    with app.app_context():
        assert command_bus.send_with_routing("probe") == "probed"


def test_flask_sqlalchemy_after_ecotone_is_refused(sqlite_url: str) -> None:
    """The order matters, and the error says which one is right."""
    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    Ecotone(app, packages=[])
    db.init_app(app)
    with app.app_context():
        with pytest.raises(
            ConfigurationError,
            match=r"Call db\.init_app\(app\) before ecotone\.init_app\(app\)",
        ):
            command_bus.send_with_routing("ping")


def test_an_application_without_a_database_works(new_app: NewApp) -> None:
    """Flask-SQLAlchemy is used when it is there; nothing asks for it."""
    app, _ = new_app(ping)
    with app.app_context():
        assert command_bus.send_with_routing("ping") == "pong"


@pytest.mark.parametrize("where", ["constructor", "init_app", "app"])
def test_the_database_extension_can_be_given(sqlite_url: str, where: str) -> None:
    """``db`` is the application's own unless another one is given."""
    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    db.init_app(app)
    ecotone = Ecotone(packages=[], db=db if where == "constructor" else None)
    ecotone.init_app(app, db if where == "init_app" else None)
    answers: list[bool] = []

    @command_handler("flush")
    def flush() -> None:
        session = db.session()
        session.commit()
        answers.append(session.in_transaction())
        session.begin_nested().rollback()
        answers.append(session.in_transaction())

    ecotone.register(flush)
    with app.app_context():
        command_bus.send_with_routing("flush")
    assert answers == [False, True]


@pytest.mark.parametrize("name", ["command_bus", "query_bus", "event_bus"])
def test_outside_of_a_context_the_error_says_what_to_do(name: str) -> None:
    """A bus needs an application; Flask's own words explain how to push one."""
    proxy = getattr(flask_ecotone, name)
    with pytest.raises(RuntimeError, match=r"app\.app_context\(\)"):
        _ = proxy.anything
    assert not proxy


def test_an_application_without_the_extension_says_what_to_do() -> None:
    """The error names the application and the missing call."""
    with Flask("bare").app_context():
        with pytest.raises(RuntimeError, match=r"'bare' has no[^$]*init_app\(app\)"):
            command_bus.send_with_routing("ping")
        with pytest.raises(RuntimeError, match=r"'bare'.*init_app"):
            Ecotone().compile()


def test_registering_after_the_compile_is_refused(new_app: NewApp) -> None:
    """What would have no effect is an error, not a surprise."""
    app, ecotone = new_app(ping)
    with app.app_context():
        ecotone.compile()
        with pytest.raises(RuntimeError, match="while the application is set up"):
            ecotone.register(query_handler("late")(lambda: None))
        with pytest.raises(RuntimeError, match="while the application is set up"):
            ecotone.provide(dict, dict)
        with pytest.raises(RuntimeError, match="while the application is set up"):
            ecotone.metadata_provider(dict)


def test_compiling_works_after_the_first_request() -> None:
    """A lazy compile touches nothing that Flask locks with the first request."""
    app = Flask(__name__)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(ping)

    @app.get("/")
    def index() -> str:
        return "index"

    @app.get("/ping")
    def view() -> str:
        return str(command_bus.send_with_routing("ping"))

    client = app.test_client()
    assert client.get("/").text == "index"
    assert not app.extensions["ecotone"].is_compiled
    assert client.get("/ping").text == "pong"
