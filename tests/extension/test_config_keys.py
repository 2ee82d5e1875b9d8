"""Misspelt keys of the configuration."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask

from flask_ecotone import Ecotone
from flask_ecotone.configuration import KNOWN_KEYS
from flask_ecotone.errors import ConfigurationError

NewApp = t.Callable[..., tuple[Flask, Ecotone]]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("ECOTONE_NAMESPACE", "ECOTONE_NAMESPACES"),
        ("ECOTONE_INSTANT_RETRY", "ECOTONE_INSTANT_RETRIES"),
        ("ECOTONE_CACHE_DIRECTORY", "ECOTONE_CACHE_DIR"),
        ("ECOTONE_TENANT", "ECOTONE_TENANTS"),
        ("ECOTONE_TESTING", "ECOTONE_TEST"),
    ],
)
@pytest.mark.parametrize("where", ["app.config", "the environment"])
def test_key_that_is_nearly_one_of_ours_is_refused(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, where: str, key: str, meant: str
) -> None:
    """The error names the key that is meant, and where the other one stands."""
    if where == "app.config":
        app, ecotone = new_app(**{key: "x"})
    else:
        monkeypatch.setenv(key, "x")
        app, ecotone = new_app()
    with app.app_context():
        with pytest.raises(ConfigurationError, match=f"Did you mean {meant!r}") as got:
            ecotone.compile()
    assert f"{key} is set in {where}" in str(got.value)


def test_key_in_the_configuration_that_there_is_not_is_refused(new_app: NewApp) -> None:
    """The prefix is ours: what has no effect isn't taken for something that has."""
    app, ecotone = new_app(ECOTONE_COLOUR="red")
    with app.app_context():
        with pytest.raises(ConfigurationError, match="needs another prefix") as got:
            ecotone.compile()
    assert "ECOTONE_COLOUR is set in app.config" in str(got.value)
    assert "Did you mean" not in str(got.value)


@pytest.mark.parametrize("key", ["ECOTONE", "ECOTONES_COLOUR", "COLOUR"])
def test_key_of_the_application_is_let_alone(new_app: NewApp, key: str) -> None:
    """Without the prefix it is none of our business."""
    app, ecotone = new_app(**{key: "x"})
    with app.app_context():
        ecotone.compile()


@pytest.mark.parametrize(
    "key", ["ECOTONE_WORKER_PROCESS", "ECOTONE_FULL_LOAD", "ECOTONE_COLOUR"]
)
def test_variable_of_another_program_is_let_alone(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Only close matches are refused in the environment, which all programs share."""
    monkeypatch.setenv(key, "x")
    app, ecotone = new_app()
    with app.app_context():
        ecotone.compile()


@pytest.mark.parametrize("name", sorted(KNOWN_KEYS))
def test_known_keys_may_be_unset(new_app: NewApp, name: str) -> None:
    """Each known key is accepted, those that are reserved as well."""
    app, ecotone = new_app(**{f"ECOTONE_{name}": None})
    with app.app_context():
        ecotone.compile()


@pytest.mark.parametrize("where", ["app.config", "the environment"])
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("ECOTONE_CONNECTION_RETRY", "tries again until its database is back"),
        ("ECOTONE_SKIPPED_MODULES", "there are no modules to skip"),
    ],
)
def test_key_without_effect_is_refused(
    new_app: NewApp, monkeypatch: pytest.MonkeyPatch, where: str, key: str, reason: str
) -> None:
    """Who sets it relies on it; the error says why there is nothing to set."""
    if where == "app.config":
        app, ecotone = new_app(**{key: ["amqp"]})
    else:
        monkeypatch.setenv(key, "amqp")
        app, ecotone = new_app()
    with app.app_context():
        with pytest.raises(ConfigurationError, match=f"{key} is set.*{reason}"):
            ecotone.compile()


def test_no_skipped_modules_may_be_said(new_app: NewApp) -> None:
    """An empty list says what is so anyway."""
    app, ecotone = new_app(ECOTONE_SKIPPED_MODULES=[])
    with app.app_context():
        ecotone.compile()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("json", "is 'json': 'json' is not a media type"),
        ("application/x-python", "Objects of Python can't lie in a channel"),
    ],
)
def test_default_media_type_that_cannot_be_is_refused(
    new_app: NewApp, given: str, said: str
) -> None:
    """When the configuration is read, not with the first message."""
    app, ecotone = new_app(ECOTONE_DEFAULT_SERIALIZATION_MEDIA_TYPE=given)
    with app.app_context():
        with pytest.raises(ConfigurationError, match=said):
            ecotone.compile()


def test_a_licence_key_changes_nothing(new_app: NewApp) -> None:
    """Every feature is free; a key of upstream's is let alone (C-19, L-14)."""
    app, ecotone = new_app(ECOTONE_LICENCE_KEY="anything")

    with app.app_context():
        ecotone.compile()
        assert ecotone.command_bus is not None
