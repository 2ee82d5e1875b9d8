"""``ECOTONE_*`` configuration, and configuration variables for handlers."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from pathlib import Path

from flask import Flask

from .channels.protocols import FinalFailure
from .conversion import JSON
from .conversion import MediaType
from .conversion import PYTHON
from .definitions import InstantRetryMark
from .errors import ConfigurationError
from .errors import ConversionError
from .services import Services
from .tenancy import MultiTenantConfiguration
from .tenancy import SQLAlchemyConnectionReference
from .tenancy.configuration import DEFAULT_CONNECTION

#: The keys that there are, and those that are reserved, without ``ECOTONE_``. The
#: licence key has no effect, as every feature is free.
KNOWN_KEYS = frozenset(
    {
        "CACHE_CONFIGURATION",
        "CACHE_DIR",
        "CONNECTION_RETRY",
        "DEFAULT_ERROR_CHANNEL",
        "DEFAULT_MEMORY_LIMIT",
        "DEFAULT_SERIALIZATION_MEDIA_TYPE",
        "DEFAULT_TENANT_BIND",
        "ENVIRONMENT",
        "FAIL_FAST",
        "HANDLER_COMMIT",
        "INSTANT_RETRIES",
        "LICENCE_KEY",
        "LOAD_APP_NAMESPACES",
        "NAMESPACES",
        "ON_EXHAUSTED",
        "SERVICE_NAME",
        "SKIPPED_MODULES",
        "TENANTS",
        "TENANT_HEADER",
        "TEST",
    }
)
#: Keys of Ecotone's that mean nothing here, and why.
_WITHOUT_EFFECT = {
    "CONNECTION_RETRY": "a worker tries again until its database is back",
    "SKIPPED_MODULES": "there are no modules to skip: what isn't used isn't loaded",
}
_PREFIX = "ECOTONE_"

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off", "none"})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of one application, read at the first use."""

    service_name: str | None = None
    namespaces: tuple[str, ...] = ()
    load_app_namespaces: bool = True
    environment: str = "production"
    handler_commit: str = "flush"
    instant_retries: int = 0
    #: What objects are written in for channels, unless their sender says it.
    media_type: str = JSON
    default_error_channel: str | None = None
    on_exhausted: FinalFailure | None = None
    test: bool = False
    fail_fast: bool = False
    #: Whether what a boot finds is kept for the next one.
    is_cached: bool = False
    #: Whether what is kept is trusted until it is cleared.
    is_trusting: bool = False

    @property
    def instant_retry(self) -> InstantRetryMark | None:
        """What every command has that says nothing of retries itself."""
        times = self.instant_retries
        return InstantRetryMark(times=times) if times else None

    @property
    def hash(self) -> str:
        """A fingerprint of the configuration, the same wherever the app stands."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_config(app: Flask) -> Config:
    """Read ``ECOTONE_*`` from ``app.config``, and what is unset from the environment.

    :raises ConfigurationError: A value isn't one of those it may have, or a key is
        misspelt.
    """
    _check_keys(app)
    _check_effects(app)
    commit = _text(app, "ECOTONE_HANDLER_COMMIT") or "flush"
    if commit not in ("flush", "raise"):
        raise ConfigurationError(
            f"ECOTONE_HANDLER_COMMIT is {commit!r}. It says what db.session.commit()"
            " does inside a command: 'flush' or 'raise'."
        )
    environment, is_stated = _environment(app)
    is_production = environment in ("prod", "production")
    # Code that is tested or debugged changes, whatever the environment is called.
    is_trusting = is_production and not (app.testing or app.debug)
    # Production that nobody asked for may be somebody trying things out.
    is_default = is_trusting and is_stated
    return Config(
        is_cached=_flag(app, "ECOTONE_CACHE_CONFIGURATION", is_default),
        is_trusting=is_trusting,
        service_name=_text(app, "ECOTONE_SERVICE_NAME"),
        namespaces=_list(app, "ECOTONE_NAMESPACES"),
        load_app_namespaces=_flag(app, "ECOTONE_LOAD_APP_NAMESPACES", True),
        environment=environment,
        handler_commit=commit,
        instant_retries=_number(app, "ECOTONE_INSTANT_RETRIES", 0),
        media_type=_media_type(app),
        default_error_channel=_text(app, "ECOTONE_DEFAULT_ERROR_CHANNEL"),
        on_exhausted=FinalFailure.named(
            _text(app, "ECOTONE_ON_EXHAUSTED"), "ECOTONE_ON_EXHAUSTED"
        ),
        test=_flag(app, "ECOTONE_TEST", False),
        fail_fast=fails_fast(app),
    )


def fails_fast(app: Flask) -> bool:
    """Whether ``init_app`` compiles; the rest is read later, at the first use."""
    return _flag(app, "ECOTONE_FAIL_FAST", False)


def memory_limit(app: Flask) -> int | None:
    """Return how many megabytes a worker may have; 0 for no limit.

    ``None`` means that the application doesn't say.
    """
    name = "ECOTONE_DEFAULT_MEMORY_LIMIT"
    return None if _raw(app, name) is None else _number(app, name, 0)


def cache_directory(app: Flask) -> Path:
    """Return where what a boot finds is kept; by default ``instance/ecotone``."""
    return Path(app.instance_path, _text(app, "ECOTONE_CACHE_DIR") or "ecotone")


class AppVariables:
    """Configuration variables: ``app.config`` first, then the environment.

    ``"MAIL.HOST"`` reads inside a dict, and ``"package.module.Class::attribute"`` reads
    an attribute of a service.
    """

    def __init__(self, app: Flask, services: Services) -> None:
        self._app = app
        self._services = services

    def has(self, name: str) -> bool:
        """Whether the variable is set."""
        return self._find(name) is not _ABSENT

    def get(self, name: str) -> t.Any:
        """Return the variable, ``None`` if it isn't set."""
        found = self._find(name)
        return None if found is _ABSENT else found

    def _find(self, name: str) -> t.Any:
        config = self._app.config
        if name in config:
            return config[name]
        if name in os.environ:
            return os.environ[name]
        if "::" in name:
            return self._of_service(*name.split("::", 1))
        found: t.Any = config
        for part in name.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return _ABSENT
            found = found[part]
        return found

    def _of_service(self, class_name: str, attribute: str) -> t.Any:
        for registered in self._services.types():
            if class_name == f"{registered.__module__}.{registered.__qualname__}":
                service = self._services.get(registered)
                return getattr(service, attribute, _ABSENT)
        return _ABSENT


_ABSENT = object()


def configured_tenants(app: Flask) -> MultiTenantConfiguration | None:
    """Return the tenants that ``ECOTONE_TENANT…`` keys configure, if any.

    :raises ConfigurationError: They can't be read, or only a part of them is set.
    """
    tenants = _raw(app, "ECOTONE_TENANTS")
    header = _text(app, "ECOTONE_TENANT_HEADER")
    default = _raw(app, "ECOTONE_DEFAULT_TENANT_BIND")
    if tenants is None:
        # Taken for no tenants at all, everything would go to one database.
        for name, value in (
            ("ECOTONE_TENANT_HEADER", header),
            ("ECOTONE_DEFAULT_TENANT_BIND", default),
        ):
            if value not in (None, ""):
                raise ConfigurationError(
                    f"{name} is set, and ECOTONE_TENANTS isn't. Set it too, for example"
                    " to 'tenant_a=bind_a,tenant_b=bind_b', or say it all in"
                    " MultiTenantConfiguration."
                )
        return None
    if isinstance(tenants, str):
        tenants = dict(map(_tenant, _list(app, "ECOTONE_TENANTS")))
    return MultiTenantConfiguration(
        header or "tenant",
        {name: _connection(app, bind) for name, bind in tenants.items()}
        if isinstance(tenants, Mapping)
        else tenants,
        None if default in (None, "") else _connection(app, default),
    )


def _tenant(text: str) -> tuple[str, str]:
    name, _, bind = (part.strip() for part in text.partition("="))
    if not name or not bind:
        raise ConfigurationError(
            f"ECOTONE_TENANTS has {text!r}. It is written as tenants with their bind"
            " keys, for example 'tenant_a=bind_a,tenant_b=bind_b'."
        )
    return name, bind


def _connection(app: Flask, name: t.Any) -> t.Any:
    """Return the connection of a name: ``"default"`` is that of the application."""
    is_bind = name in (app.config.get("SQLALCHEMY_BINDS") or {})
    if name == DEFAULT_CONNECTION and not is_bind:
        return SQLAlchemyConnectionReference.default_connection()
    return name


def _environment(app: Flask) -> tuple[str, bool]:
    """Return the environment, and whether somebody said so."""
    given = _text(app, "ECOTONE_ENVIRONMENT") or os.environ.get("APP_ENV")
    if given:
        return given, True
    return "test" if app.testing else "dev" if app.debug else "production", False


def _check_keys(app: Flask) -> None:
    """Refuse keys with our prefix that there aren't.

    The environment has those of other programs too: only what is nearly one of ours is
    refused there.
    """
    for where, keys in (("app.config", app.config), ("the environment", os.environ)):
        is_ours = keys is app.config
        for key in keys:
            if not isinstance(key, str) or not key.startswith(_PREFIX):
                continue
            name = key.removeprefix(_PREFIX)
            if name in KNOWN_KEYS:
                continue
            # Without the prefix, which would make any two keys look alike.
            cutoff = 0.6 if is_ours else 0.7
            close = difflib.get_close_matches(name, KNOWN_KEYS, n=1, cutoff=cutoff)
            if close or is_ours:
                meant = f" Did you mean {_PREFIX + close[0]!r}?" if close else ""
                raise ConfigurationError(
                    f"{key} is set in {where}, and Ecotone doesn't know it.{meant}"
                    " Rename it; a key of your own needs another prefix."
                )


def _check_effects(app: Flask) -> None:
    """Refuse what somebody relies on, and that does nothing."""
    for name, reason in _WITHOUT_EFFECT.items():
        key = _PREFIX + name
        if _raw(app, key) not in (None, "", (), []):
            raise ConfigurationError(
                f"{key} is set and has no effect here, as {reason}. Remove it."
            )


def _media_type(app: Flask) -> str:
    name = "ECOTONE_DEFAULT_SERIALIZATION_MEDIA_TYPE"
    given = _text(app, name) or JSON
    try:
        essence = MediaType.parse(given).essence
    except ConversionError as error:
        raise ConfigurationError(f"{name} is {given!r}: {error}") from error
    if essence == PYTHON:
        raise ConfigurationError(
            f"{name} is {given!r}. Objects of Python can't lie in a channel: name what"
            " they are written in, for example 'application/json'."
        )
    return given


def _raw(app: Flask, name: str) -> t.Any:
    value = app.config.get(name)
    return os.environ.get(name) if value is None else value


def _text(app: Flask, name: str) -> str | None:
    value = _raw(app, name)
    return None if value in (None, "") else str(value)


def _flag(app: Flask, name: str, default: bool) -> bool:
    value = _raw(app, name)
    if value is None:
        return default
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ConfigurationError(
            f"{name} is {value!r}. It is switched with 'true' or 'false'."
        )
    return text in _TRUE


def _number(app: Flask, name: str, default: int) -> int:
    value = _raw(app, name)
    if value is None:
        return default
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0:
        raise ConfigurationError(f"{name} is {value!r}. It is a number, 0 or more.")
    return number


def _list(app: Flask, name: str) -> tuple[str, ...]:
    value = _raw(app, name)
    if value is None:
        return ()
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    return tuple(filter(None, value))
