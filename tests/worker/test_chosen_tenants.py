"""``flask ecotone run --tenant``: a worker of some tenants only."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from flask_ecotone import Ecotone
from flask_ecotone import InMemoryChannel
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.consuming import Limits

from .town import BINDS
from .town import Send
from .town import Town


def run(town: Town, *arguments: str, code: int = 0) -> str:
    """Run a worker until there is nothing more to do."""
    args = ["ecotone", "run", *arguments, "--finish-when-no-messages"]
    result = town.app.test_cli_runner().invoke(args=args)
    assert result.exit_code == code, result.output
    return str(result.output)


@pytest.fixture
def files(tmp_path: Path) -> dict[str | None, str]:
    """Databases by bind key, the default one included."""
    keys = (None, *BINDS.values())
    return {key: f"sqlite:///{tmp_path / str(key)}.sqlite" for key in keys}


def test_a_worker_takes_the_messages_of_its_tenants(town: Town) -> None:
    """Those of others stay; several tenants may be named."""
    town.baptise("a", "Ann")
    town.baptise("b", "Bea")
    said = run(town, "letters", "--tenant", "a")
    assert said.startswith("Handling messages of letters for a.\n")
    assert town.handled() == [("a", "Ann")]
    assert town.queued("bind_b") == ["write"]
    run(town, "letters", "--header", "tenant:b")
    assert town.handled() == [("a", "Ann"), ("b", "Bea")]
    town.baptise("a", "Abe")
    town.baptise("b", "Bob")
    run(town, "letters", "--tenant", "b", "--tenant", "a")
    assert set(town.handled()[2:]) == {("a", "Abe"), ("b", "Bob")}


def test_a_worker_of_all_channels_takes_those_that_are_apart(town: Town) -> None:
    """A channel in memory, or with a bind, mixes the messages of all tenants."""
    town.baptise("a", "loud Ann")
    with town.app.app_context():
        town.ecotone.command_bus.send(Send("Bea"), {"tenant": "b"})
    town.work("outbox")
    said = run(town, "--all", "--tenant", "a")
    assert said.startswith("Handling messages of bells, letters, outbox for a.\n")
    assert town.handled("bell") == [("a", "loud Ann")]
    assert town.handled("parcel") == []
    said = run(town, "carrier", "--tenant", "a", code=1)
    assert "The channel 'carrier' has the messages of all tenants in one place" in said


def test_a_tenant_that_is_not_there_has_no_worker(town: Town) -> None:
    """The error has those that there are."""
    said = run(town, "letters", "--tenant", "c", code=1)
    assert "Lack of mapping for tenant `c`. There are a, b." in said


@pytest.mark.parametrize("default", [None, "bind_a"])
def test_tenants_with_one_database_have_one_worker(
    files: dict[str | None, str], default: str | None
) -> None:
    """Their messages can't be told apart when they are claimed."""
    binds = {"a": "bind_a", "also": "bind_a", "b": "bind_b"}
    town = Town(files, MultiTenantConfiguration("tenant", binds, default))
    town.baptise("also", "Al")
    others = "also" if default is None else "whoever isn't mapped, also"
    said = run(town, "letters", "--tenant", "a", code=1)
    assert f"Messages of a lie in one database with those of {others}, so" in said
    assert run(town, "letters", "--tenant", "b").startswith("Handling")
    assert town.handled() == []
    if default is None:
        run(town, "letters", "--tenant", "a", "--tenant", "also")
        assert town.handled() == [("also", "Al")]


def test_a_worker_of_a_tenant_that_is_gone_takes_nothing(
    files: dict[str | None, str],
) -> None:
    """Not even what is in the default database, where it would be now."""
    mapped = dict(BINDS)
    default = SQLAlchemyConnectionReference.default_connection()
    configuration = MultiTenantConfiguration(
        "tenant", mapped.get, default, names=lambda: list(mapped)
    )
    town = Town(files, configuration)
    town.baptise("a", "Ann")
    town.baptise(None, "Nat")
    limits = Limits(finishes_when_empty=True)
    worker = town.worker("letters", tenants=["a"], limits=limits)
    del mapped["a"]
    assert worker.run().handled == 0
    mapped["a"] = "bind_a"
    town.work()
    assert set(town.handled()) == {("a", "Ann"), (None, "Nat")}


def test_without_tenants_none_can_be_named() -> None:
    """The application has no databases of tenants."""
    app = Flask("alone")
    Ecotone(app, packages=[], channels=[InMemoryChannel("notes")])
    args = ["ecotone", "run", "notes", "--tenant", "a"]
    result = app.test_cli_runner().invoke(args=args)
    assert result.exit_code == 1
    assert "The application has no tenants." in result.output
