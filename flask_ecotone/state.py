"""What belongs to one application."""

from __future__ import annotations

import threading
import typing as t

import svcs
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask import has_request_context

from .channels.dead_letters import DeadLetter
from .cli import check_console_commands
from .configuration import AppVariables
from .configuration import Config
from .configuration import configured_tenants
from .configuration import read_config
from .consuming.scheduling import Schedules
from .databases import AppDatabases
from .databases import make_tenants
from .databases import used_features
from .declarations import Declarations
from .declarations import Provider
from .discovery import Catalogue
from .errors import ConfigurationError
from .errors import EcotoneError
from .errors import ServiceNotFoundError
from .gateways import build_gateways
from .gateways import CommandBus
from .gateways import EventBus
from .gateways import QueryBus
from .message import checked_metadata
from .messaging import Failures
from .messaging import make_notes
from .messaging import make_schedules
from .messaging import Messaging
from .scanning import Scan
from .scanning import Scanner
from .services import Services
from .storage.models import SQLAlchemyRepository
from .storage.statements import SessionStatements
from .storage.tables import Feature
from .storage.transaction import SessionTransaction
from .system import compile_system
from .system import Configuration
from .system import MessagingSystem
from .tenancy import ConnectionFactory
from .tenancy import Tenancy
from .testing import FlowTesting
from .testing import InMemoryConsoleWriter
from .testing import MessageRecorder

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

T = t.TypeVar("T")

#: Where svcs keeps the registry of an application.
SVCS_REGISTRY = "svcs_registry"


class EcotoneState:
    """What belongs to one application.

    :attr:`system` is compiled on first access, by one thread, once.

    :param trusts: Whether it may be compiled from what an earlier boot found.
    """

    def __init__(
        self,
        app: Flask,
        declarations: Declarations,
        db: SQLAlchemy | None,
        *,
        trusts: bool = True,
    ) -> None:
        self._app = app
        self._trusts = trusts
        self.declarations = declarations
        self._db = db
        self._lock = threading.RLock()
        self._is_compiling = False
        self._system: MessagingSystem | None = None
        self._failure: EcotoneError | None = None
        self._config: Config | None = None
        self._found: tuple[int, Scan] | None = None
        self._transaction: SessionTransaction | None = None
        self._tenancy: Tenancy | None = None
        self._has_tenancy: bool | None = None
        self.recorder: MessageRecorder | None = None
        self.messaging: Messaging | None = None
        #: Who works where there are no channels.
        self._alone: Messaging | None = None
        self.schedules: Schedules
        self.command_bus: CommandBus
        self.query_bus: QueryBus
        self.event_bus: EventBus

    def __getattr__(self, name: str) -> t.Any:
        # The buses, for example, become attributes when the system is compiled.
        if name in ("command_bus", "query_bus", "event_bus", "schedules"):
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
        """A fingerprint of the configuration that the system was found with."""
        manifest = self._found[1].manifest if self._found else None
        return manifest.fingerprint if manifest else self.config.hash

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
            return self._system or self._guarded(self._compile)

    def check(self) -> MessagingSystem:
        """Return a system that is compiled from the source, whatever a manifest says.

        :raises ConfigurationError: It can't be.
        """
        if self._found is None:
            self._trusts = False
        elif self._found[1].manifest is not None:
            declared, db = self.declarations, self._db
            return EcotoneState(self._app, declared, db, trusts=False).system
        return self.system

    @property
    def catalogue(self) -> Catalogue:
        """What is marked, read on first access; nothing is compiled for it.

        :raises ConfigurationError: It can't be read; each time the same error.
        """
        with self._lock:
            if self._found is None or self._found[0] != len(
                self.declarations.registered
            ):
                self._guarded(self._scan)
            return t.cast("tuple[int, Scan]", self._found)[1].catalogue

    @property
    def scanner(self) -> Scanner:
        """How marked code is found, and where that is remembered."""
        told = self.declarations.packages
        registered = self.declarations.registered
        trusts = self._trusts
        return Scanner(self._app, self.config, told, registered, trusts=trusts)

    @property
    def tenancy(self) -> Tenancy | None:
        """How the tenants of the application are activated, if it has any.

        It is there before the system is compiled: a session must not be used for the
        wrong database meanwhile.
        """
        if self._has_tenancy is None:
            with self._lock:
                if self._has_tenancy is None:
                    self._tenancy = self._make_tenancy()
                    self._has_tenancy = self._tenancy is not None
        return self._tenancy

    def setup_database(self, tenant: str | None) -> None:
        """Create the application's tables for one tenant, or for all.

        :raises ConfigurationError: There is no database, or no such tenant.
        """
        databases = self.databases
        if databases is None:
            raise ConfigurationError(
                "The application has no database to set up. Call db.init_app(app)"
                " before ecotone.init_app(app)."
            )
        databases.set_up(tenant)

    @property
    def databases(self) -> AppDatabases | None:
        """The databases, if the application has any; nothing is compiled for it."""
        db = self._db
        if db is None:
            return None
        return AppDatabases(db, self._engines(db), lambda: self.tenancy)

    @property
    def used_features(self) -> tuple[Feature, ...]:
        """The features whose tables the application needs."""
        has_channels = self.declarations.has_database_channels
        return used_features(has_channels or self._scan().notes_keys)

    def end_context(self, error: BaseException | None) -> None:
        """Hand over what a nested app context wrote to the command around it."""
        if self._transaction is not None:
            self._transaction.end_guest(error)

    def _guarded(self, make: t.Callable[[], T]) -> T:
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args) from self._failure.__cause__
        if self._is_compiling:
            raise ConfigurationError(
                "Ecotone was used by a module while it was importing that module to"
                " look for handlers. Use buses and gateways inside functions, not"
                " at import time."
            )
        self._is_compiling = True
        try:
            return make()
        except EcotoneError as error:
            self._failure = error
            raise
        finally:
            self._is_compiling = False

    def _compile(self) -> MessagingSystem:
        config = self.config
        registry: svcs.Registry = self._app.extensions[SVCS_REGISTRY]
        for service_type, factory in self.declarations.services.items():
            registry.register_factory(service_type, factory)
        services = Services(registry)
        services.provide_value(Flask, self._app)
        connections = self._connections(services)
        scan = self._scan()
        catalogue, manifest = scan.catalogue, scan.manifest
        check_console_commands(self._app, catalogue)
        transaction, models = self._database(config, catalogue)
        units, notes = make_notes(self.databases, transaction, scan.notes_keys)
        tenancy = self.tenancy
        if tenancy is not None:
            tenancy.tenants.check()
        if config.test and self.recorder is None:
            self.recorder = MessageRecorder()
        messaging = self._open_channels(transaction)
        system = compile_system(
            catalogue,
            Configuration(
                services=services,
                variables=AppVariables(self._app, services),
                logger=self._app.logger.getChild("ecotone"),
                transaction=units,
                notes=notes,
                models=models,
                retry=config.instant_retry,
                media_type=config.media_type,
                observer=self.recorder.record if self.recorder else None,
                spy=self.recorder.spy if self.recorder else None,
                provider=self._provider(),
                tenancy=tenancy,
                connections=connections,
                channels=messaging.channels if messaging else None,
                deferred=manifest.deferred if manifest else (),
                load=self.scanner.load,
                order=manifest.order if manifest else (),
                hint=scan.hint,
            ),
        )
        build_gateways(system, catalogue, self._statements())
        self._provide_flow(registry, services, system)
        self._find_buses(services)
        self._transaction = transaction
        self.messaging = messaging
        if messaging is not None:
            messaging.complete(system)
            services.provide_value(DeadLetter, messaging.dead_letters)
        elif system.error_routes:
            self._alone = self._without_channels(system)
        self.schedules = make_schedules(
            self._app, system, self.databases, transaction, self._failures
        )
        self.scanner.remember(scan, system)
        self._system = system
        return system

    def _connections(self, services: Services) -> ConnectionFactory | None:
        if self._db is None:
            return None
        connections = ConnectionFactory(self._db, lambda: self.tenancy)
        services.provide_value(ConnectionFactory, connections)
        return connections

    def _scan(self) -> Scan:
        count = len(self.declarations.registered)
        if self._found is None or self._found[0] != count:
            self._found = count, self.scanner.scan()
        return self._found[1]

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
        transaction = SessionTransaction(db, self._engines(db), config.handler_commit)
        return transaction, [SQLAlchemyRepository(db.session.registry)]

    def _open_channels(
        self, transaction: SessionTransaction | None
    ) -> Messaging | None:
        declared = self.declarations
        if not declared.channels:
            return None
        return Messaging(
            self._app,
            declared.channels,
            self._failures,
            self.databases,
            transaction,
        )

    def _without_channels(self, system: MessagingSystem) -> Messaging:
        messaging = Messaging(
            self._app, (), self._failures, self.databases, self._transaction
        )
        messaging.complete(system)
        return messaging

    @property
    def _failures(self) -> Failures:
        config, told = self.config, self.declarations.error_handlers
        return Failures(told, config.default_error_channel, config.on_exhausted)

    def _provide_flow(
        self, registry: svcs.Registry, services: Services, system: MessagingSystem
    ) -> None:
        if self.recorder is None:
            registry.register_factory(FlowTesting, _refuse_flow_testing)
        else:
            flow = FlowTesting(system, self.recorder, console=InMemoryConsoleWriter())
            services.provide_value(FlowTesting, flow)

    def _find_buses(self, services: Services) -> None:
        self.command_bus = services.get(CommandBus)
        self.query_bus = services.get(QueryBus)
        self.event_bus = services.get(EventBus)

    def worker_messaging(self) -> Messaging | None:
        """Return the channels that a worker empties.

        There are none, but somebody who works, where there are schedules only.
        """
        system = self.system
        if self.messaging is None and system.schedules:
            self._alone = self._alone or self._without_channels(system)
            return self._alone
        return self.messaging

    def _statements(self) -> SessionStatements | None:
        db = self._db
        if db is None:
            return None
        has_tenants = self.tenancy is not None
        return SessionStatements(lambda: db.session(), self._engines(db), has_tenants)

    def _engines(self, db: SQLAlchemy) -> t.Any:
        if has_app_context() and current_app._get_current_object() is self._app:  # type: ignore[attr-defined]
            return db.engines
        with self._app.app_context():
            return db.engines

    def _make_tenancy(self) -> Tenancy | None:
        configurations = [*self.declarations.configurations]
        configured = configured_tenants(self._app)
        if configured is not None:
            configurations.append(configured)
        if not configurations:
            return None
        if len(configurations) > 1:
            raise ConfigurationError(
                f"Tenants are configured {len(configurations)} times, by headers"
                f" {', '.join(repr(c.header) for c in configurations)}. Give Ecotone"
                " one MultiTenantConfiguration, or the ECOTONE_TENANT… keys."
            )
        db = self._db
        if db is None:
            raise ConfigurationError(
                "Tenants are configured and require a 'db' connection to be"
                " configured. Call db.init_app(app) before ecotone.init_app(app)."
            )
        tenants = make_tenants(self._app, db, self._engines(db), configurations[0])
        return Tenancy(tenants, db, self._app)

    def _provider(self) -> Provider | None:
        providers = self.declarations.metadata_providers
        if not providers:
            return None

        def provide() -> dict[str, t.Any]:
            headers: dict[str, t.Any] = {}
            if has_request_context():
                for provider in providers:
                    headers.update(checked_metadata(provider()))
            return headers

        return provide


def _refuse_flow_testing() -> FlowTesting:
    raise ServiceNotFoundError(
        "FlowTesting is a service of applications under test only, as it keeps every"
        " message. Set ECOTONE_TEST = True."
    )
