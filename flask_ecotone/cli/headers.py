"""The option ``--header`` of all commands."""

from __future__ import annotations

import functools
import typing as t
from collections.abc import Callable
from collections.abc import Mapping

import click
from flask import current_app

from ..errors import MessagingError
from ..system.console import headers_of
from .types import HeaderType

_HEADER: t.Final = "header"
#: What a command may call its tenants.
_TENANT: t.Final = "tenant"
_TENANTS: t.Final = "tenants"


def header_option(help: str) -> click.Option:
    """Return the option ``--header`` that every command has."""
    return click.Option(
        [f"--{_HEADER}"],
        type=HeaderType(),
        metavar="NAME:VALUE",
        multiple=True,
        callback=_checked,
        help=help,
    )


def _checked(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    try:
        headers_of(value)
    except MessagingError as error:
        raise click.BadParameter(str(error), ctx, param) from error
    return value


def taking_headers(function: Callable[..., t.Any]) -> Callable[..., t.Any]:
    """Let a command of ours take headers, of which that of the tenant counts.

    It stands for ``--tenant``. A command that has no such option is about no tenant.
    """
    declared = list(getattr(function, "__click_params__", ()))
    names = {param.name for param in declared}
    has_tenant = not names.isdisjoint((_TENANT, _TENANTS))

    @functools.wraps(function)
    def run(*args: t.Any, **params: t.Any) -> t.Any:
        headers = dict(params.pop(_HEADER, ()))
        if headers and has_tenant:
            _take_tenant(headers, params)
        return function(*args, **params)

    help = "A header; that of the tenant stands for --tenant."
    # Click takes them from the last to the first.
    own = header_option(help if has_tenant else "A header, as all commands take.")
    t.cast(t.Any, run).__click_params__ = [own, *declared]
    return run


def _take_tenant(headers: Mapping[str, str], params: dict[str, t.Any]) -> None:
    tenancy = current_app.extensions["ecotone"].tenancy
    tenant = None if tenancy is None else headers.get(tenancy.header)
    if tenant is None:
        return
    is_one = _TENANT in params
    given = params[_TENANT if is_one else _TENANTS] or None
    if given not in (None, tenant, (tenant,)):
        raise click.UsageError(
            f"--header says the tenant {tenant!r}, and --tenant another one."
        )
    if is_one:
        params[_TENANT] = tenant
    else:
        params[_TENANTS] = (tenant,)
