"""What surrounds the handling of a message, and how that is lost."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..storage.protocols import Transaction

_R = t.TypeVar("_R")


class OutageError(Exception):
    """The database is gone. The message is to be given back as it is."""


def always(headers: Mapping[str, t.Any], tenant: str | None) -> bool:
    """Say yes."""
    return True


def no_tenant(headers: Mapping[str, t.Any]) -> str | None:
    """Return that there is none."""
    return None


@dataclass(frozen=True, slots=True)
class Environment:
    """What surrounds a handled message.

    :param context: Makes the app context of one message.
    :param is_outage: Whether the database is the reason of an error.
    :param is_at_home: Whether a message with some headers is handled on the engine of a
        tenant.
    :param tenant_named: Returns the tenant that headers name, if there is one.
    :param tenant_header: The header that does; ``None`` without tenants.
    """

    context: Callable[[], AbstractContextManager[t.Any]]
    transaction: Transaction | None
    is_outage: Callable[[BaseException], bool]
    is_at_home: Callable[[Mapping[str, t.Any], str | None], bool] = always
    tenant_named: Callable[[Mapping[str, t.Any]], str | None] = no_tenant
    tenant_header: str | None = None

    def in_unit(self, call: Callable[[], _R]) -> _R:
        """Call something in a unit of work, or just call it without a database."""
        if self.transaction is None:
            return call()
        return t.cast(_R, self.transaction.run(None, call))
