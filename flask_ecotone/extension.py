"""The Flask extension: what an application is given, and what belongs to each one."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable

import svcs
import svcs.flask
from flask import current_app
from flask import Flask
from flask import has_app_context
from flask.globals import app_ctx

from .channels.references import check_channels
from .channels.references import is_channel
from .cli import add_console_commands
from .cli import ecotone_cli
from .configuration import fails_fast
from .consuming import ErrorHandler
from .declarations import Declarations
from .declarations import Provider
from .errors import ConfigurationError
from .gateways import CommandBus
from .gateways import EventBus
from .gateways import QueryBus
from .state import EcotoneState
from .state import SVCS_REGISTRY
from .storage import tables
from .storage.scopes import scope_by_context
from .storage.session import take_over
from .system import MessagingSystem
from .tenancy import MultiTenantConfiguration
from .tenancy import Tenancy
from .tenancy.tenancy import innermost_tenant

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

T = t.TypeVar("T")
F = t.TypeVar("F", bound=Callable[..., t.Any])


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
        configurations, handlers, opened = [], [], []
        for given in (*channels, *extensions):
            if isinstance(given, MultiTenantConfiguration):
                configurations.append(given)
            elif isinstance(given, ErrorHandler):
                handlers.append(given)
            elif is_channel(given):
                opened.append(given)
            else:
                raise ConfigurationError(
                    f"Ecotone() was given {given!r:.80}, which configures nothing that"
                    " this version has. Give it channels such as"
                    " DatabaseChannel('orders'), an ErrorHandler or a"
                    " MultiTenantConfiguration."
                )
        check_channels(opened)
        for service_type, factory in (services or {}).items():
            check_factory(service_type, factory)
        self._declarations = Declarations(
            None if packages is None else tuple(packages),
            tuple(configurations),
            dict(services or {}),
            channels=tuple(opened),
            error_handlers=tuple(handlers),
        )
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
        if SVCS_REGISTRY not in app.extensions:
            svcs.flask.init_app(app)
        if db is not None:
            scope_by_context(db, _current_context)
            take_over(db, _current_routing, innermost_tenant)
            if self._declarations.has_database_channels:
                for key in (None, *self._declarations.bind_keys):
                    tables.register(db, key)
        state = app.extensions["ecotone"] = EcotoneState(app, self._declarations, db)
        app.cli.add_command(ecotone_cli, "ecotone")
        add_console_commands(app, state)
        app.teardown_appcontext(state.end_context)
        if fails_fast(app):
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
        check_factory(service_type, factory)
        self._declarations.services[service_type] = factory

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
        registered = self._declarations.registered
        registered.extend(each for each in found if each not in registered)

    def metadata_provider(self, provider: Provider) -> Provider:
        """Decorate a function that returns headers for messages sent in a request.

        It runs for the first message of a flow; metadata given to the bus wins.
        """
        self._refuse_late("metadata_provider")
        self._declarations.metadata_providers.append(provider)
        return provider

    def add_tenant(self, tenant: str, database: str) -> None:
        """Add a tenant to the current application, in this process.

        :param database: A key of ``SQLALCHEMY_BINDS``, or the URL of a database. Its
            engine is opened when it is first used.
        :raises ConfigurationError: The tenant exists, or the application has none.
        """
        self._tenancy().tenants.add(tenant, database)

    def remove_tenant(self, tenant: str) -> None:
        """Remove a tenant that was added at run time, and dispose its engine.

        :raises UnknownTenantError: It wasn't added.
        """
        self._tenancy().tenants.remove(tenant)

    def setup_database(self, tenant: str | None = None) -> None:
        """Create the application's tables, as ``flask ecotone database setup`` does.

        Tables that exist are left as they are; a schema that stands for a tenant is
        created too.

        :param tenant: The tenant whose database it is; ``None`` for all of them, or
            for the databases of an application without tenants.
        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        :raises ConfigurationError: The tenants are given by a function, and none is
            named; or a tenant is named and the application has none.
        """
        _current_state().setup_database(tenant)

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

    def _tenancy(self) -> Tenancy:
        tenancy = _current_state().tenancy
        if tenancy is None:
            raise ConfigurationError(
                "The application has no tenants. Give Ecotone a"
                " MultiTenantConfiguration, or set ECOTONE_TENANTS."
            )
        return tenancy

    def _refuse_late(self, method: str) -> None:
        state = None
        if has_app_context():
            state = current_app.extensions.get("ecotone")
        if (
            state is not None
            and state.is_compiled
            and state.declarations is self._declarations
        ):
            raise RuntimeError(
                f"'ecotone.{method}()' was called after the messaging system of the"
                f" application {current_app.name!r} was compiled, and would have no"
                " effect on it. Call it while the application is set up."
            )


# What the proxy calls itself, as it is asked whenever db.session is used.
_current_context = app_ctx._get_current_object  # type: ignore[attr-defined]


def check_factory(service_type: t.Any, factory: t.Any) -> None:
    """Refuse an object where a factory is expected.

    :raises ConfigurationError: It can't be called.
    """
    if not callable(factory):
        name = getattr(service_type, "__qualname__", str(service_type))
        raise ConfigurationError(
            f"The service {name} was provided as {factory!r:.80}, which is no factory."
            " Give a function that returns it, for example 'lambda: mailer'."
        )


def _current_routing() -> Tenancy | None:
    # Asked whenever db.session is used, so past the proxy's own look-up.
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    state = app.extensions.get("ecotone")
    return None if state is None else t.cast(EcotoneState, state).tenancy


def _current_state() -> EcotoneState:
    state = current_app.extensions.get("ecotone")
    if state is None:
        raise RuntimeError(
            f"The Flask app {current_app.name!r} is not registered with this 'Ecotone'"
            " instance. Did you forget to call 'init_app', or did you create multiple"
            " 'Ecotone' instances?"
        )
    return t.cast(EcotoneState, state)
