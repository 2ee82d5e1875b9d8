"""The active tenant: activated around a message, followed by the session."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import TenantAlreadyActiveError
from ..message import Message
from ..signals import tenant_activated
from ..signals import tenant_deactivated
from .configuration import SQLAlchemyConnectionReference
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


_active: ContextVar[ActiveTenant | None] = ContextVar("active_tenant", default=None)

#: Returns the innermost active tenant of any application, if there is one. It is asked
#: before each look-up of a session, and so is no function of its own.
innermost_tenant: t.Final = _active.get


class Tenancy:
    """Activates tenants for the messages of one application.

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
        """The active tenant of this application, if there is one."""
        found = _active.get()
        while found is not None and found.tenancy is not self:
            found = found.outer
        return found

    def run(self, message: Message, proceed: Callable[[Message], t.Any]) -> t.Any:
        """Handle a message with its tenant active.

        :raises TenantAlreadyActiveError: Another tenant is active.
        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        named = message.header(self.tenants.header)
        if named is None:
            return proceed(message)
        tenant = str(named)
        current = self.current
        if current is not None:
            if current.tenant != tenant:
                raise TenantAlreadyActiveError(
                    f"Tenant `{current.tenant}` is already active. Please deactivate"
                    " it before activating another tenant. The message is for tenant"
                    f" `{tenant}`."
                )
            return proceed(message)
        return self.activated(tenant, lambda: proceed(message))

    def activated(self, tenant: str, proceed: Callable[[], t.Any]) -> t.Any:
        """Call something with a tenant active, in a session of its own."""
        connection = self.tenants.connection_of(tenant)
        token = _active.set(ActiveTenant(self, tenant, connection, _active.get()))
        try:
            self._remove_session()
            self._log.info(
                "Activating tenant `%s` on connection `%s`", tenant, connection
            )
            for hook in self._on_activation:
                hook(tenant, connection)
            self._notify(tenant_activated, tenant, connection)
            return proceed()
        finally:
            try:
                self._deactivate(tenant, connection)
            finally:
                _active.reset(token)

    def create_tables(self, tenant: str) -> None:
        """Create the application's tables in the database of a tenant.

        :raises UnknownTenantError: The tenant isn't mapped and there is no default.
        """
        connection = self.tenants.connection_of(tenant)
        engine = self.tenants.engine(connection)
        if connection.schema is not None:
            with engine.begin() as begun:
                begun.execute(sa.schema.CreateSchema(connection.schema, True))
        self._db.metadatas[None].create_all(engine)

    def bind_for(self, mapper: t.Any, clause: t.Any) -> sa.Engine | None:
        """Return where a statement goes; ``None`` if its bind isn't configured.

        :raises MissingTenantError: It follows the tenant, and there is none.
        """
        key = _bind_key(mapper, clause)
        return self.engine() if key is None else self._db.engines.get(key)

    def engine(self) -> sa.Engine:
        """Return the engine of the active tenant, or of the default connection.

        :raises MissingTenantError: There is neither.
        """
        current = self.current
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

    def _deactivate(
        self, tenant: str, connection: SQLAlchemyConnectionReference
    ) -> None:
        # The message is done, for good or bad: what fails now must neither hide that
        # nor have it handled again.
        for hook in self._on_deactivation:
            try:
                hook(tenant, connection)
            except Exception:
                self._log.exception("A hook on the deactivation of a tenant failed.")
        self._notify(tenant_deactivated, tenant, connection)
        try:
            self._remove_session()
        finally:
            self._log.info(
                "Deactivating tenant `%s` on connection `%s`", tenant, connection
            )

    def _remove_session(self) -> None:
        # While the tenant is active: afterwards the session couldn't be found.
        registry = self._db.session.registry
        if registry.has():
            try:
                registry().close()
            finally:
                registry.clear()

    def _notify(
        self, signal: Signal, tenant: str, connection: SQLAlchemyConnectionReference
    ) -> None:
        for receiver in signal.receivers_for(self._sender):
            try:
                receiver(self._sender, tenant=tenant, bind_key=connection.bind_key)
            except Exception:
                self._log.exception("A receiver of %r failed.", signal)


def _bind_key(mapper: t.Any, clause: t.Any) -> str | None:
    """Return the bind key of the tables that a statement is about, if they have one."""
    if mapper is not None:
        inspected = sa.inspect(mapper, raiseerr=False)
        if isinstance(inspected, sa_orm.Mapper):
            return _bind_key_of(inspected.local_table)
    if isinstance(clause, sa.UpdateBase):
        return _bind_key_of(clause.table)
    if isinstance(clause, sa.Select):
        keys = {_bind_key_of(found) for found in clause.get_final_froms()}
        return keys.pop() if len(keys) == 1 else None
    return _bind_key_of(clause)


def _bind_key_of(selectable: t.Any) -> str | None:
    if isinstance(selectable, sa.Table):
        return t.cast("str | None", selectable.metadata.info.get("bind_key"))
    if isinstance(selectable, sa.Join):
        return _bind_key_of(selectable.left)
    element = getattr(selectable, "element", None)
    return None if element is None else _bind_key_of(element)
