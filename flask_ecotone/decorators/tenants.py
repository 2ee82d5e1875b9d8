"""Markers about tenants."""

from __future__ import annotations

import typing as t

from ..definitions import TenantHookMark
from ..definitions import TenantResolverMark
from .marking import Decorator
from .marking import F
from .marking import marking


@t.overload
def on_tenant_activation(function: F, /) -> F: ...
@t.overload
def on_tenant_activation() -> Decorator: ...
def on_tenant_activation(function: t.Any = None) -> t.Any:
    """Mark a function that is called after a tenant became active.

    Its first parameter is the :class:`SQLAlchemyConnectionReference` of the tenant; the
    tenant is in the tenant header. An exception stops the message.
    """
    decorate = marking(TenantHookMark(on_activation=True))
    return decorate if function is None else decorate(function)


@t.overload
def on_tenant_deactivation(function: F, /) -> F: ...
@t.overload
def on_tenant_deactivation() -> Decorator: ...
def on_tenant_deactivation(function: t.Any = None) -> t.Any:
    """Mark a function that is called before a tenant stops being active.

    The message is handled by then: an exception is logged and changes nothing.
    """
    decorate = marking(TenantHookMark(on_activation=False))
    return decorate if function is None else decorate(function)


def with_tenant_resolver(expression: t.Any) -> Decorator:
    """Say how the tenant of a message from outside follows from the message.

    It is for inbound channel adapters; messages of the application carry their tenant
    in the tenant header.
    """
    return marking(TenantResolverMark(expression=expression))
