"""What ``Annotated`` says about a parameter or an attribute."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Payload:
    """The payload of the message, or what an expression makes of it."""

    expression: t.Any = None


@dataclass(frozen=True, slots=True)
class Header:
    """One header, converted to the parameter's type, or what an expression makes of it.

    The message must carry it unless the parameter has a default or accepts ``None``.
    """

    name: str
    expression: t.Any = None


@dataclass(frozen=True, slots=True)
class Headers:
    """All headers, as a dict."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A service, by name or by the parameter's type, or what an expression makes of
    it.
    """

    name: str | None = None
    expression: t.Any = None


@dataclass(frozen=True, slots=True)
class ConfigVariable:
    """A value of ``app.config`` or of the environment; by default the one with the
    parameter's name.
    """

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """A named option of a console command instead of a positional argument."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """An aggregate, loaded by the identifier that the expression returns.

    It isn't saved afterwards.
    """

    expression: t.Any


@dataclass(frozen=True, slots=True)
class SqlParam:
    """How an argument becomes a parameter of SQL.

    :param name: What the SQL calls it; by default as the parameter.
    :param expression: Computes it from ``payload``, the argument.
    :param convert_to: Write it in this media type, for example ``"application/json"``.
    """

    name: str | None = None
    expression: t.Any = None
    convert_to: str | None = None


@dataclass(frozen=True, slots=True)
class TenantConnection:
    """The database connection of the active tenant, as the session uses it."""


@dataclass(frozen=True, slots=True)
class TenantSession:
    """The session of the active tenant, as ``db.session()``."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """On an attribute: it identifies the aggregate. On a parameter of a business
    method: the identifier of the aggregate that is meant.
    """

    name: str | None = None


@dataclass(frozen=True, slots=True)
class TargetIdentifier:
    """On an attribute of a message: an identifier of the aggregate it is for."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """On an attribute of an aggregate: its version, for optimistic locking.

    :param auto_increase: Count up with each save; otherwise the aggregate does.
    """

    auto_increase: bool = True


@dataclass(frozen=True, slots=True)
class TargetVersion:
    """On an attribute of a message: the version the sender expects."""
