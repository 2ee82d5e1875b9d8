"""Services from svcs: who makes them, how long they live, what is said without."""

import abc
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field

import pytest
import svcs
from flask import Flask

from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import current_ecotone
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import MethodInvocation
from flask_ecotone import Reference
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ServiceNotFoundError
from flask_ecotone.services import Services
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class Work:
    pass


class Contract(abc.ABC):
    @abc.abstractmethod
    def render(self) -> str:
        """Render."""


class Implementation(Contract):
    def render(self) -> str:
        return "rendered"


class Interface(t.Protocol):
    def render(self) -> str:
        """Render."""
        ...


class Connection:
    """Something that is opened and closed."""


class Repository:
    def __init__(self, connection: Connection) -> None:
        self.connection = connection


class Needy:
    """Takes what nobody provides."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract


class NeedyOwner:
    def __init__(self, needy: Needy) -> None:
        self.needy = needy


class Chicken:
    def __init__(self, egg: "Egg") -> None:
        self.egg = egg


class Egg:
    def __init__(self, chicken: Chicken) -> None:
        self.chicken = chicken


@dataclass
class Connections:
    """Opens connections and notes what happens to them."""

    log: list[str] = field(default_factory=list)
    opened: int = 0

    def open(self) -> Iterator[Connection]:
        """Open a connection, and close it when its lifetime is over."""
        self.opened += 1
        number = self.opened
        self.log.append(f"open {number}")
        yield Connection()
        self.log.append(f"close {number}")


def app_with(*found: t.Any, services: t.Any = None) -> Flask:
    """Return an application with handlers and factories of services."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[], services=services)
    ecotone.register(*found)
    ecotone.init_app(app)
    return app


def test_registry_that_the_application_has_is_used() -> None:
    """Factories registered with svcs, before and after init_app, are found."""
    app = Flask(__name__)
    svcs.flask.init_app(app)
    registry = svcs.flask.get_registry(app)
    svcs.flask.register_value(app, str, "from svcs")
    ecotone = Ecotone(packages=[])

    @command_handler
    def work(
        command: Work, text: t.Annotated[str, Reference()], contract: Contract
    ) -> str:
        return f"{text}, {contract.render()}"

    ecotone.register(work)
    ecotone.init_app(app)
    assert svcs.flask.get_registry(app) is registry
    svcs.flask.register_factory(app, Contract, Implementation)
    with app.app_context():
        assert command_bus.send(Work()) == "from svcs, rendered"


def test_factories_are_given_in_four_ways() -> None:
    """services=, provide(), @provider and a factory that takes the container."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[], services={Connection: Connection})

    def repository(svcs_container: svcs.Container) -> Repository:
        return Repository(svcs_container.get(Connection))

    ecotone.provide(Repository, repository)

    @ecotone.provider
    def contract() -> Contract:
        return Implementation()

    @command_handler
    def work(command: Work, found: Contract, repository: Repository) -> t.Any:
        return found.render(), type(repository.connection)

    ecotone.register(work)
    ecotone.init_app(app)
    with app.app_context():
        assert command_bus.send(Work()) == ("rendered", Connection)
        assert ecotone.service(Contract).render() == "rendered"


def test_provider_without_return_annotation_is_refused() -> None:
    """Nothing says which service the factory makes."""

    def factory():  # type: ignore[no-untyped-def]
        return 1

    with pytest.raises(ConfigurationError, match="factory"):
        Ecotone(packages=[]).provider(factory)


def test_service_in_a_constructor_lives_as_long_as_the_application() -> None:
    """Made once at the first message, cleaned up when the services are closed."""
    connections = Connections()

    class Worker:
        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        @command_handler
        def work(self, command: Work) -> Connection:
            return self.connection

    app = app_with(Worker, services={Connection: connections.open})
    with app.app_context():
        services = current_ecotone.system.services
        assert connections.log == []
        assert command_bus.send(Work()) is command_bus.send(Work())
    with app.app_context():
        command_bus.send(Work())
        assert connections.log == ["open 1"]
        services.close()
        assert connections.log == ["open 1", "close 1"]


def test_service_in_a_parameter_lives_as_long_as_the_message() -> None:
    """Each message has its own, cleaned up when the message is handled."""
    connections = Connections()

    @command_handler
    def work(command: Work, connection: Connection) -> None:
        connections.log.append("work")

    app = app_with(work, services={Connection: connections.open})
    with app.app_context():
        command_bus.send(Work())
        command_bus.send(Work())
    expected = ["open 1", "work", "close 1", "open 2", "work", "close 2"]
    assert connections.log == expected


def test_service_of_a_failing_message_is_cleaned_up() -> None:
    """Also when the handler raises."""
    connections = Connections()

    @command_handler
    def work(command: Work, connection: Connection) -> None:
        raise ValueError

    app = app_with(work, services={Connection: connections.open})
    with app.app_context(), pytest.raises(ValueError):
        command_bus.send(Work())
    assert connections.log == ["open 1", "close 1"]


@pytest.mark.parametrize("pointcut", [CommandBus, command_handler])
def test_interceptors_and_handler_of_one_message_share_a_service(
    pointcut: t.Any,
) -> None:
    """The bus's and the handler's interceptors see the connection of the handler."""
    connections = Connections()
    seen: list[Connection] = []

    @before(pointcut=pointcut)
    def prepare(command: Work, connection: Connection) -> None:
        seen.append(connection)

    @before(pointcut=pointcut, change_headers=True)
    def enrich(connection: t.Annotated[Connection, Reference()]) -> dict[str, int]:
        seen.append(connection)
        return {"changed": 1}

    @around(pointcut=pointcut)
    def surround(invocation: MethodInvocation, connection: Connection) -> t.Any:
        seen.append(connection)
        return invocation.proceed()

    @command_handler
    def work(command: Work, connection: Connection, repository: Repository) -> None:
        seen.extend((connection, repository.connection))

    found = (prepare, enrich, surround, work)
    app = app_with(*found, services={Connection: connections.open})
    with app.app_context():
        command_bus.send(Work())
    assert len(seen) == 5
    assert len(set(map(id, seen))) == 1
    assert connections.log == ["open 1", "close 1"]


def test_nested_message_has_services_of_its_own() -> None:
    """They are cleaned up with the nested message, before those around it."""
    connections = Connections()

    @command_handler
    def work(command: Work, connection: Connection, events: EventBus) -> Connection:
        events.publish(Work())
        return connection

    @event_handler
    def first(event: Work, connection: Connection) -> None:
        connections.log.append(f"first {id(connection)}")

    @event_handler
    def second(event: Work, connection: Connection) -> None:
        connections.log.append(f"second {id(connection)}")

    app = app_with(work, first, second, services={Connection: connections.open})
    with app.app_context():
        command_bus.send(Work())
    opened, nested, by_first, by_second, *closed = connections.log
    assert (opened, nested) == ("open 1", "open 2")
    assert by_first.split()[1] == by_second.split()[1]
    assert closed == ["close 2", "close 1"]


def test_autowired_class_shares_registered_services_with_the_message() -> None:
    """Wired anew for each message, with the message's own connection."""

    @command_handler
    def work(command: Work, repository: Repository, connection: Connection) -> t.Any:
        return repository, repository.connection is connection

    app = app_with(work, services={Connection: Connection})
    with app.app_context():
        first, is_shared = command_bus.send(Work())
        second, _ = command_bus.send(Work())
    assert is_shared
    assert first is not second


def test_missing_service_does_not_prevent_compiling() -> None:
    """It is missed when it is needed, and the other handlers work."""

    @command_handler
    def work(command: Work, contract: Contract) -> None: ...

    @command_handler("other")
    def other() -> str:
        return "works"

    app = app_with(work, other)
    with app.app_context():
        assert command_bus.send_with_routing("other") == "works"
        with pytest.raises(ServiceNotFoundError, match="Contract"):
            command_bus.send(Work())


def _in_parameter() -> t.Any:
    @command_handler
    def work(command: Work, contract: Contract) -> None: ...

    return work


def _in_parameter_of_parameter() -> t.Any:
    @command_handler
    def work(command: Work, owner: NeedyOwner) -> None: ...

    return work


def _in_constructor() -> t.Any:
    class Worker:
        def __init__(self, owner: NeedyOwner) -> None: ...

        @command_handler
        def work(self, command: Work) -> None: ...

    return Worker


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (_in_parameter, ""),
        (_in_parameter_of_parameter, "NeedyOwner → Needy → Contract"),
        (_in_constructor, "Worker → NeedyOwner → Needy → Contract"),
    ],
)
def test_missing_service_is_named_with_the_way_to_it_each_time(
    make: t.Callable[[], t.Any], path: str
) -> None:
    """The innermost missing type, who needs it, and the fix; the same when repeated."""
    app = app_with(make())
    said: list[str] = []
    with app.app_context():
        for _ in range(3):
            with pytest.raises(ServiceNotFoundError) as caught:
                command_bus.send(Work())
            said.append(str(caught.value))
    assert len(set(said)) == 1
    assert "type Contract was found" in said[0]
    assert path in said[0]
    assert "ecotone.provide(Contract, factory)" in said[0]


def test_failing_dispatch_gives_the_same_answer_over_http() -> None:
    """Through a real application: 500 with the honest error, twice, then it heals."""
    app = app_with(_in_parameter())
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.errorhandler(ServiceNotFoundError)
    def show(error: ServiceNotFoundError) -> tuple[str, int]:
        return str(error), 500

    @app.post("/work")
    def work() -> str:
        command_bus.send(Work())
        return "done"

    client = app.test_client()
    first, second = client.post("/work"), client.post("/work")
    assert first.status_code == second.status_code == 500
    assert first.text == second.text
    assert "Contract" in first.text
    svcs.flask.register_factory(app, Contract, Implementation)
    assert client.post("/work").text == "done"


def test_failing_constructor_leaves_nothing_half_built() -> None:
    """What was made on the way to the failure is made again, and then it works."""
    made: list[str] = []

    class Part:
        def __init__(self) -> None:
            made.append("part")

    class Whole:
        def __init__(self, part: Part) -> None:
            made.append("whole")
            if made.count("whole") < 3:
                raise ConnectionError("not yet")

        @command_handler
        def work(self, command: Work) -> str:
            return "works"

    app = app_with(Whole)
    with app.app_context():
        for _ in range(2):
            with pytest.raises(ConnectionError, match="not yet"):
                command_bus.send(Work())
        assert command_bus.send(Work()) == "works"
        assert command_bus.send(Work()) == "works"
    assert made.count("whole") == 3


def test_failing_factory_raises_its_own_exception_each_time() -> None:
    """The exception isn't wrapped; a note says which parameter was filled."""

    def connect() -> Connection:
        raise ConnectionError("no database")

    @command_handler
    def work(command: Work, repository: Repository) -> None: ...

    app = app_with(work, services={Connection: connect})
    with app.app_context():
        for _ in range(2):
            with pytest.raises(ConnectionError, match="no database") as caught:
                command_bus.send(Work())
            assert (
                "Cannot resolve the parameter 'repository'"
                in (caught.value.__notes__[0])
            )


def test_services_that_need_each_other_are_an_error_that_shows_the_circle() -> None:
    """Not a RecursionError, and the same each time."""

    @command_handler
    def work(command: Work, chicken: Chicken) -> None: ...

    app = app_with(work)
    with app.app_context():
        for _ in range(2):
            with pytest.raises(ServiceNotFoundError, match="Chicken → Egg → Chicken"):
                command_bus.send(Work())


def test_constructor_parameter_without_annotation_is_an_error_of_ours() -> None:
    """It names the class and the parameter."""

    class Worker:
        def __init__(self, repository) -> None: ...  # type: ignore[no-untyped-def]

        @command_handler
        def work(self, command: Work) -> None: ...

    app = app_with(Worker)
    with app.app_context():
        with pytest.raises(ServiceNotFoundError, match=r"'repository' of .*Worker\(\)"):
            command_bus.send(Work())


def test_constructor_parameter_with_a_default_needs_no_service() -> None:
    """The default stands in."""

    class Worker:
        def __init__(self, size: int = 3, contract: Contract | None = None) -> None:
            self.found = size, contract

        @command_handler
        def work(self, command: Work) -> t.Any:
            return self.found

    app = app_with(Worker)
    with app.app_context():
        assert command_bus.send(Work()) == (3, None)


def test_has_says_what_can_be_provided_and_makes_nothing() -> None:
    """Registered interfaces and classes: yes. Interfaces that nobody makes: no."""
    made: list[str] = []

    def factory() -> Contract:
        made.append("contract")
        return Implementation()

    class Concrete:
        def __init__(self) -> None:
            made.append("concrete")

    class Unprovided(abc.ABC):
        @abc.abstractmethod
        def do(self) -> None: ...

    app = app_with(services={Contract: factory, "name": lambda: 1})
    with app.app_context():
        services: Services = current_ecotone.system.services
        assert services.has(Contract)
        assert services.has(Concrete)
        assert services.has("name")
        assert services.has(CommandBus)
        assert not services.has(Unprovided)
        assert not services.has(Interface)
        assert not services.has("other name")
        assert not services.has(t.Any)
        assert not services.has(int)
        assert made == []
        assert services.get(Contract).render() == "rendered"
        assert made == ["contract"]


def test_compiling_makes_no_service() -> None:
    """A database isn't connected to because a handler takes a connection."""
    made: list[str] = []

    def connect() -> Connection:
        made.append("connection")
        return Connection()

    class Worker:
        def __init__(self, connection: Connection) -> None:
            made.append("worker")

        @command_handler
        def work(self, command: Work, connection: Connection) -> None: ...

    app = app_with(Worker, services={Connection: connect})
    with app.app_context():
        app.extensions["ecotone"].compile()
        assert made == []
        command_bus.send(Work())
    assert sorted(made) == ["connection", "connection", "worker"]


def test_application_itself_is_a_service() -> None:
    """A handler may take the Flask application by its type."""

    @command_handler
    def work(command: Work, app: Flask) -> str:
        return app.name

    app = app_with(work)
    with app.app_context():
        assert command_bus.send(Work()) == app.name


def test_bus_that_is_not_registered_is_an_error_with_the_fix() -> None:
    """A custom bus is made by Ecotone; asking for an unknown one says how."""

    class OtherBus(CommandBus): ...

    with pytest.raises(ServiceNotFoundError, match=r"ecotone\.register\(.*OtherBus\)"):
        flow_testing([]).gateway(OtherBus)


class Mailer:
    def __init__(self, host: str, ports: list[int]) -> None: ...


def test_plain_value_in_a_constructor_is_not_asked_for_as_a_service() -> None:
    """A str for all isn't the advice: a factory of the class that takes it is."""

    @command_handler
    def work(command: Work, mailer: Mailer) -> None: ...

    with pytest.raises(ServiceNotFoundError) as caught:
        flow_testing([work]).send_command(Work())
    text = str(caught.value)
    assert "provide(str" not in text
    assert "Mailer, lambda: " in text
    assert "give the parameter a default" in text


def test_plain_value_by_type_alone_says_nothing() -> None:
    """Asked for directly, a type of Python says to mark the parameter."""
    with pytest.raises(ServiceNotFoundError, match=r"Reference\('name'\)"):
        Services(svcs.Registry()).get(int)


def test_plain_value_that_is_registered_is_a_service() -> None:
    """Who provides a str gets it."""
    registry = svcs.Registry()
    registry.register_value(str, "localhost")
    assert Services(registry).get(str) == "localhost"
