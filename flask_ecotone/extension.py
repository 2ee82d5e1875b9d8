"""The Flask extension: what an application is given, and what belongs to each one."""

from __future__ import annotations

import sys
import sysconfig
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

import svcs
import svcs.flask
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import has_request_context

from .cli import ecotone_cli
from .configuration import AppVariables
from .configuration import Config
from .configuration import read_config
from .definitions import InstantRetryMark
from .discovery import Catalogue
from .discovery import collect
from .discovery import marked_in
from .discovery import scan_root
from .errors import ConfigurationError
from .errors import EcotoneError
from .gateways import build_gateways
from .gateways import CommandBus
from .gateways import EventBus
from .gateways import QueryBus
from .message import checked_metadata
from .services import Services
from .storage.models import SQLAlchemyRepository
from .storage.session import take_over
from .storage.transaction import SessionTransaction
from .system import compile_system
from .system import Configuration
from .system import MessagingSystem
from .testing.recorder import MessageRecorder

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

T = t.TypeVar("T")
F = t.TypeVar("F", bound=Callable[..., t.Any])
Provider = Callable[[], dict[str, t.Any]]

_REGISTRY = "svcs_registry"


class Ecotone:
    """Ecotone for Flask applications.

    :param app: Initialise this application at once.
    :param db: The application's Flask-SQLAlchemy extension; by default the one that is
        registered on the application.
    :param packages: Import names of packages and modules to scan for handlers. Left
        out, the application's package and those of its blueprints are scanned.
    :param channels: Channels for asynchronous handlers.
    :param extensions: Configuration objects.
    :param services: Service type → factory.

    One object can serve several applications: it holds declarations only, and what is
    made of them is kept for each application on ``app.extensions["ecotone"]``.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        db: SQLAlchemy | None = None,
        packages: Iterable[str] | None = None,
        channels: Iterable[t.Any] = (),
        extensions: Iterable[t.Any] = (),
        services: dict[t.Any, Callable[..., t.Any]] | None = None,
    ) -> None:
        self._db = db
        self._packages = None if packages is None else tuple(packages)
        for given in (*channels, *extensions):
            raise ConfigurationError(
                f"Ecotone() was given {given!r}, which configures nothing that this"
                " version has."
            )
        self._services = dict(services or {})
        self._registered: list[t.Any] = []
        self._metadata_providers: list[Provider] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: SQLAlchemy | None = None) -> None:
        """Prepare an application. Nothing is scanned, imported or connected yet.

        Call it after ``db.init_app(app)``.

        :param db: The application's Flask-SQLAlchemy extension, if it isn't the one
            registered on it.
        :raises RuntimeError: The application has an Ecotone extension already.
        """
        if "ecotone" in app.extensions:
            raise RuntimeError(
                "An 'Ecotone' instance has already been registered on this Flask app."
                " Import and use that instance instead."
            )
        db = db or self._db or app.extensions.get("sqlalchemy")
        if _REGISTRY not in app.extensions:
            svcs.flask.init_app(app)
        if db is not None:
            take_over(db)
        state = app.extensions["ecotone"] = EcotoneState(app, self, db)
        app.cli.add_command(ecotone_cli, "ecotone")
        app.teardown_appcontext(state.end_context)
        if state.config.fail_fast:
            state.compile()

    def compile(self) -> MessagingSystem:
        """Compile the current application's system now, and return it.

        :raises ConfigurationError: The marked code can't be compiled.
        """
        return _current_state().system

    def get(self, gateway: type[T]) -> T:
        """Return a bus, a gateway or a business interface by its type."""
        return t.cast(T, _current_state().system.services.get(gateway))

    def service(self, service_type: type[T]) -> T:
        """Return a service of the current application.

        It lives as long as the app context if it is registered with svcs.

        :raises ServiceNotFoundError: Nothing provides it.
        """
        system = _current_state().system
        if service_type in svcs.flask.registry:
            return svcs.flask.get(service_type)
        return t.cast(T, system.services.get(service_type))

    def provide(self, service_type: t.Any, factory: Callable[..., t.Any]) -> None:
        """Register the factory of a service, for every application.

        :param factory: Returns the service; svcs may pass it its container.
        """
        self._refuse_late("provide")
        self._services[service_type] = factory

    def provider(self, factory: F) -> F:
        """Decorate the factory of the service that it is annotated to return."""
        hints = t.get_type_hints(factory)
        if hints.get("return") is None:
            raise ConfigurationError(
                f"The factory {factory.__qualname__} doesn't say which service it"
                " returns. Annotate it, for example '-> Mailer'."
            )
        self.provide(hints["return"], factory)
        return factory

    def register(self, *found: t.Any) -> None:
        """Register classes and functions besides those in scanned packages."""
        self._refuse_late("register")
        self._registered.extend(each for each in found if each not in self._registered)

    def metadata_provider(self, provider: Provider) -> Provider:
        """Decorate a function that returns headers for messages sent in a request.

        It runs for the first message of a flow; metadata given to the bus wins.
        """
        self._metadata_providers.append(provider)
        return provider

    @property
    def command_bus(self) -> CommandBus:
        """The command bus of the current application."""
        return _current_state().command_bus

    @property
    def query_bus(self) -> QueryBus:
        """The query bus of the current application."""
        return _current_state().query_bus

    @property
    def event_bus(self) -> EventBus:
        """The event bus of the current application."""
        return _current_state().event_bus

    def _refuse_late(self, method: str) -> None:
        state = None
        if has_app_context():
            state = current_app.extensions.get("ecotone")
        if state is not None and state.is_compiled and state.extension is self:
            raise RuntimeError(
                f"'ecotone.{method}()' was called after the messaging system of the"
                f" application {current_app.name!r} was compiled, and would have no"
                " effect on it. Call it while the application is set up."
            )


class EcotoneState:
    """What belongs to one application.

    :attr:`system` is compiled on first access, by one thread, once.
    """

    def __init__(self, app: Flask, extension: Ecotone, db: SQLAlchemy | None) -> None:
        self._app = app
        self.extension = extension
        self._db = db
        self._lock = threading.RLock()
        self._is_compiling = False
        self._system: MessagingSystem | None = None
        self._failure: EcotoneError | None = None
        self._config: Config | None = None
        self._transaction: SessionTransaction | None = None
        self.recorder: MessageRecorder | None = None
        self.command_bus: CommandBus
        self.query_bus: QueryBus
        self.event_bus: EventBus

    def __getattr__(self, name: str) -> t.Any:
        # The buses become attributes when the system is compiled.
        if name in ("command_bus", "query_bus", "event_bus"):
            self.compile()
            return self.__dict__[name]
        raise AttributeError(name)

    @property
    def config(self) -> Config:
        """The configuration; read once."""
        if self._config is None:
            self._config = read_config(self._app)
        return self._config

    @property
    def config_hash(self) -> str:
        """A fingerprint of the configuration."""
        return self.config.hash

    @property
    def is_compiled(self) -> bool:
        """Whether the system is there."""
        return self._system is not None

    @property
    def system(self) -> MessagingSystem:
        """The messaging system, compiled on first access."""
        return self._system or self.compile()

    def compile(self) -> MessagingSystem:
        """Compile the system if it isn't yet.

        :raises ConfigurationError: It can't be; each time the same error.
        """
        with self._lock:
            if self._system is not None:
                return self._system
            if self._failure is not None:
                raise type(self._failure)(*self._failure.args) from (
                    self._failure.__cause__
                )
            if self._is_compiling:
                raise ConfigurationError(
                    "Ecotone was used by a module while it was importing that module to"
                    " look for handlers. Use buses and gateways inside functions, not"
                    " at import time."
                )
            self._is_compiling = True
            try:
                return self._compile()
            except EcotoneError as error:
                self._failure = error
                raise
            finally:
                self._is_compiling = False

    def end_context(self, error: BaseException | None) -> None:
        """Write what a nested app context has pending for the command around it."""
        if error is None and self._transaction is not None:
            self._transaction.flush_guest()

    def _compile(self) -> MessagingSystem:
        config = self.config
        registry: svcs.Registry = self._app.extensions[_REGISTRY]
        for service_type, factory in self.extension._services.items():
            registry.register_factory(service_type, factory)
        services = Services(registry)
        services.provide_value(Flask, self._app)
        catalogue = self._catalogue(config)
        transaction, models = self._database(config, catalogue)
        if config.test and self.recorder is None:
            self.recorder = MessageRecorder()
        retries = config.instant_retries
        system = compile_system(
            catalogue,
            Configuration(
                services=services,
                variables=AppVariables(self._app, services),
                logger=self._app.logger.getChild("ecotone"),
                transaction=transaction,
                models=models,
                retry=InstantRetryMark(times=retries) if retries else None,
                observer=self.recorder.record if self.recorder else None,
                provider=self._provider(),
            ),
        )
        build_gateways(system, catalogue)
        self.command_bus = services.get(CommandBus)
        self.query_bus = services.get(QueryBus)
        self.event_bus = services.get(EventBus)
        self._transaction = transaction
        self._system = system
        return system

    def _catalogue(self, config: Config) -> Catalogue:
        found = [*self.extension._registered, *marked_in(self._packages(config))]
        return collect(found, config.environment)

    def _packages(self, config: Config) -> Iterator[str]:
        if self.extension._packages is not None:
            yield from self.extension._packages
        yield from config.namespaces
        if self.extension._packages is not None or config.namespaces:
            return
        if config.load_app_namespaces:
            root = scan_root(self._app.import_name)
            yield root
            for blueprint in self._app.blueprints.values():
                found = scan_root(blueprint.import_name)
                if not _is_installed(found) or _is_installed(root):
                    yield found
                else:
                    # Somebody else's package: what it imports is not ours to run.
                    yield blueprint.import_name

    def _database(
        self, config: Config, catalogue: Catalogue
    ) -> tuple[SessionTransaction | None, list[SQLAlchemyRepository]]:
        db = self._db
        if db is None:
            if "sqlalchemy" in self._app.extensions:
                raise ConfigurationError(
                    "Flask-SQLAlchemy was registered on the application after Ecotone."
                    " Call db.init_app(app) before ecotone.init_app(app)."
                )
            for cls in catalogue.aggregates:
                if hasattr(cls, "__mapper__"):
                    raise ConfigurationError(
                        f"The aggregate {cls.__qualname__} is a database model and"
                        " requires a 'db' connection to be configured. Call"
                        " db.init_app(app) before ecotone.init_app(app)."
                    )
            return None, []
        if has_app_context() and current_app._get_current_object() is self._app:  # type: ignore[attr-defined]
            engines = db.engines
        else:
            with self._app.app_context():
                engines = db.engines
        transaction = SessionTransaction(db, engines, config.handler_commit)
        return transaction, [SQLAlchemyRepository(lambda: db.session())]

    def _provider(self) -> Provider | None:
        providers = self.extension._metadata_providers
        if not providers:
            return None

        def provide() -> dict[str, t.Any]:
            headers: dict[str, t.Any] = {}
            if has_request_context():
                for provider in providers:
                    headers.update(checked_metadata(provider()))
            return headers

        return provide


def _current_state() -> EcotoneState:
    state = current_app.extensions.get("ecotone")
    if state is None:
        raise RuntimeError(
            f"The Flask app {current_app.name!r} is not registered with this 'Ecotone'"
            " instance. Did you forget to call 'init_app', or did you create multiple"
            " 'Ecotone' instances?"
        )
    return t.cast(EcotoneState, state)


def _is_installed(name: str) -> bool:
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    paths = sysconfig.get_paths()
    return any(file.startswith(paths[key]) for key in ("purelib", "platlib"))
