"""The active tenant: activated around a message, followed by the session."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import field

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import TenancyError
from ..errors import TenantAlreadyActiveError
from ..message import Message
from ..signals import tenant_activated
from ..signals import tenant_deactivated
from .binds import bind_key_of
from .configuration import SQLAlchemyConnectionReference
from .tenants import shown
from .tenants import tenant_name
from .tenants import Tenants

if t.TYPE_CHECKING:
    from blinker import Signal
    from flask_sqlalchemy import SQLAlchemy

#: Called when a tenant is activated or deactivated.
Hook = Callable[[str, SQLAlchemyConnectionReference], None]


@dataclass(slots=True)
class ActiveTenant:
    """A tenant while messages are handled for it."""

    tenancy: Tenancy
    tenant: str
    connection: SQLAlchemyConnectionReference
    outer: ActiveTenant | None
    #: Looked up once: the session keeps to the engine that it began with.
    engine: sa.Engine | None = None
    thread: int = field(default_factory=threading.get_ident)


_active: ContextVar[ActiveTenant | None] = ContextVar("active_tenant", default=None)

#: Returns the innermost active tenant of any application, if there is one. It is asked
#: before each look-up of a session, and so is no function of its own.
innermost_tenant: t.Final = _active.get


class Tenancy:
    """Activates tenants for the messages of one application.

    It implements :class:`~flask_ecotone.storage.protocols.Activation` and
    :class:`~flask_ecotone.storage.protocols.Routing`.

    :param tenants: The tenants.
    :param db: The Flask-SQLAlchemy extension.
    :param sender: The application, as the sender of signals.
    """

    def __init__(self, tenants: Tenants, db: SQLAlchemy, sender: t.Any) -> None:
        self.tenants = tenants
        self._db = db
        self._sender = sender
        self._log = logging.getLogger(f"{sender.name}.ecotone")
        self._on_activation: tuple[Hook, ...] = ()
        self._on_deactivation: tuple[Hook, ...] = ()

    def call_hooks(
        self, on_activation: tuple[Hook, ...], on_deactivation: tuple[Hook, ...]
    ) -> None:
        """Set what is called around an activation. Called by the compiler."""
        self._on_activation = on_activation
        self._on_deactivation = on_deactivation

    @property
    def header(self) -> str:
        """The header that names the tenant."""
        return self.tenants.header

    @property
    def current(self) -> ActiveTenant | None:
        """The active tenant of this application, if there is one.

        :raises TenancyError: The context was copied to another thread.
        """
        found = _active.get()
        while found is not None and found.tenancy is not self:
            found = found.outer
        if found is not None and found.thread != threading.get_ident():
            raise TenancyError(
                f"A thread used the tenant `{shown(found.tenant)}` of the message that"
                " started it. A database session belongs to one thread: start it with"
                " flask_ecotone.copy_current_message_context()."
            )
        return found

    def opens(self, message: Message) -> bool:
        """Whether the tenant of a message isn't active yet."""
        return message.header(self.tenants.header) is not None and self.current is None

    def run(self, message: Message, proceed: Callable[[Message], t.Any]) -> t.Any:
        """Handle a message with its tenant active.

        :raises TenantAlreadyActiveError: Another tenant is active.
        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        named = message.header(self.tenants.header)
        if named is None:
            return proceed(message)
        tenant = named if named.__class__ is str else tenant_name(named)
        current = self.current
        if current is not None:
            if current.tenant != tenant:
                raise TenantAlreadyActiveError(
                    f"Tenant `{shown(current.tenant)}` is already active. Please"
                    " deactivate it before activating another tenant. The message is"
                    f" for tenant `{shown(tenant)}`."
                )
            return proceed(message)
        return self._activated(tenant, lambda: proceed(message))

    def _activated(self, tenant: str, proceed: Callable[[], t.Any]) -> t.Any:
        self._check_application(tenant)
        connection = self.tenants.connection_of(tenant)
        token = _active.set(ActiveTenant(self, tenant, connection, _active.get()))
        try:
            scope = self._db.session.registry.scopefunc()
            # Nothing that an earlier message left may be found.
            self._give_up_session(scope)
            self._note("Activating tenant `%s` on connection `%s`", tenant, connection)
            result = self._in_session(scope, tenant, connection, proceed)
        finally:
            try:
                if self._on_deactivation:
                    self._call_deactivation_hooks(scope, tenant, connection)
                self._note(
                    "Deactivating tenant `%s` on connection `%s`", tenant, connection
                )
            finally:
                _active.reset(token)
            self._notify(tenant_deactivated, tenant, connection)
        return result

    def _in_session(
        self,
        scope: t.Any,
        tenant: str,
        connection: SQLAlchemyConnectionReference,
        proceed: Callable[[], t.Any],
    ) -> t.Any:
        try:
            for hook in self._on_activation:
                hook(tenant, connection)
            self._notify(tenant_activated, tenant, connection)
            result = proceed()
            sessions = self._db.session.registry.registry
            session = sessions.get(scope)
            if session is not None:
                # In a command on the default connection it hands over what it wrote.
                session.close()
                sessions.pop(scope, None)
            return result
        except BaseException:
            self._give_up_session(scope)
            raise

    def create_tables(self, tenant: str) -> None:
        """Create the application's tables in the database of a tenant.

        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        self._db.metadatas[None].create_all(self.create_schema(tenant))

    def create_schema(self, tenant: str) -> sa.Engine:
        """Create the schema of a tenant that is one, and return the tenant's engine.

        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        connection = self.tenants.connection_of(tenant)
        engine = self.tenants.engine(connection)
        if connection.schema is not None:
            with engine.begin() as begun:
                begun.execute(sa.schema.CreateSchema(connection.schema, True))
        return engine

    def bind_key(self, mapper: t.Any, clause: t.Any) -> str | None:
        """Return where a statement always goes; ``None`` if it follows the tenant."""
        return bind_key_of(self._db.metadatas, mapper, clause)

    def engine_for(self, scope: t.Hashable) -> sa.Engine:
        """Return the engine for a session that was made in a scope.

        :raises MissingTenantError: There is neither a tenant nor a default connection.
        :raises TenancyError: The session belongs to another tenant.
        """
        current = self.current
        active = None if current is None else current.tenant
        if scope == active:
            return self._engine_of(current)
        if scope is None and self.tenants.default is not None:
            return self.tenants.engine(self.tenants.default)
        raise TenancyError(
            f"A database session of {_named(scope)} was used while {_named(active)} is"
            " active. What it loaded belongs to its own message: give ids or"
            " dataclasses to others, and use 'db.session' wherever a session is needed."
        )

    def engine(self) -> sa.Engine:
        """Return the engine of the active tenant, or of the default connection.

        :raises MissingTenantError: There is neither.
        """
        return self._engine_of(self.current)

    def _engine_of(self, current: ActiveTenant | None) -> sa.Engine:
        if current is not None:
            if current.engine is None:
                current.engine = self.tenants.engine(current.connection)
            return current.engine
        if self.tenants.default is None:
            raise self.tenants.missing()
        return self.tenants.engine(self.tenants.default)

    def scope(self) -> t.Hashable:
        """Return what distinguishes the session of the active tenant from others."""
        current = self.current
        return None if current is None else current.tenant

    def _note(self, text: str, tenant: str, connection: object) -> None:
        if self._log.isEnabledFor(logging.INFO):
            self._log.info(text, shown(tenant), shown(connection))

    def _check_application(self, tenant: str) -> None:
        if self._db.engines is not self.tenants.engines:
            raise TenancyError(
                f"A message for the tenant `{shown(tenant)}` of the application"
                f" {self._sender.name!r} was sent inside the context of another"
                " application, whose databases aren't its own. Push the context of the"
                " application that the bus belongs to: 'with app.app_context():'."
            )

    def _call_deactivation_hooks(
        self, scope: t.Any, tenant: str, connection: SQLAlchemyConnectionReference
    ) -> None:
        # The message is done, for good or bad: what fails now must neither hide that
        # nor have it handled again.
        try:
            for hook in self._on_deactivation:
                try:
                    hook(tenant, connection)
                except Exception:
                    self._log.exception(
                        "A hook on the deactivation of a tenant failed."
                    )
        finally:
            self._give_up_session(scope)

    def _give_up_session(self, scope: t.Any) -> None:
        session = self._db.session.registry.registry.pop(scope, None)
        if session is not None:
            try:
                # Past what the session itself does: nothing is handed over.
                sa_orm.Session.close(session)
            except Exception:
                self._log.exception("The session of a tenant could not be closed.")

    def _notify(
        self, signal: Signal, tenant: str, connection: SQLAlchemyConnectionReference
    ) -> None:
        if not signal.receivers:
            return
        for receiver in signal.receivers_for(self._sender):
            try:
                receiver(self._sender, tenant=tenant, bind_key=connection.bind_key)
            except Exception:
                self._log.exception("A receiver of %r failed.", signal)


def _named(tenant: t.Hashable) -> str:
    return "no tenant" if tenant is None else f"the tenant `{shown(tenant)}`"
