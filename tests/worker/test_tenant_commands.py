"""Commands of ``flask ecotone`` about channels and dead letters of tenants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flask_ecotone import MultiTenantConfiguration

from .town import envelope
from .town import Town


class Terminal:
    """Runs commands of an application."""

    def __init__(self, town: Town) -> None:
        self.town = town

    def __call__(self, *arguments: str, code: int = 0) -> str:
        runner = self.town.app.test_cli_runner()
        result = runner.invoke(args=["ecotone", *arguments])
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture
def terminal(town: Town) -> Terminal:
    """A town with a dead letter of each tenant, and two more of the tenant a."""

    def fail() -> None:
        raise ValueError("no ink")

    town.acts.update(Ann=fail, Abe=fail, Bea=fail)
    town.baptise("a", "Ann", "Abe")
    town.baptise("b", "Bea")
    town.work()
    town.acts.clear()
    return Terminal(town)


def test_dead_letters_of_one_tenant_and_of_all(terminal: Terminal) -> None:
    """They are listed, counted and shown; the column of the tenant is there then."""
    both = terminal("deadletter", "list", "--all-tenants")
    assert both.splitlines()[0].split()[:2] == ["Tenant", "Id"]
    assert both.count("ValueError: no ink") == 3
    one = json.loads(terminal("deadletter", "list", "--tenant", "b", "--json"))
    assert [(row["tenant"], json.loads(row["body"])) for row in one] == [
        ("b", {"name": "Bea"})
    ]
    header = terminal("deadletter", "list", "--header", "tenant:b", "--json")
    assert json.loads(header) == one
    stats = json.loads(terminal("deadletter", "stats", "--all-tenants", "--json"))
    assert {(row["tenant"], row["count"]) for row in stats} == {("a", 2), ("b", 1)}
    id = str(one[0]["id"])
    assert "no ink" in terminal("deadletter", "show", id, "--tenant", "b")
    for command in (["list"], ["stats"], ["show", id], ["replay", id]):
        assert "no default connection" in terminal("deadletter", *command, code=2)


def test_dead_letters_of_tenants_are_replayed(terminal: Terminal) -> None:
    """Those of one tenant by their ids, or all of all tenants."""
    rows = json.loads(terminal("deadletter", "list", "--tenant", "a", "--json"))
    id = str(rows[0]["id"])
    assert terminal("deadletter", "replay", id, "--tenant", "a") == "1 put back.\n"
    assert terminal("deadletter", "replay-all", "--all-tenants") == (
        "a: 1 put back.\nb: 1 put back.\n"
    )
    terminal.town.work()
    assert sorted(terminal.town.book("bind_a")[2:]) == ["letter Abe", "letter Ann"]
    assert terminal.town.book("bind_b")[1:] == ["letter Bea"]
    assert "no dead letters" in terminal("deadletter", "list", "--all-tenants")


def test_a_limit_of_a_replay_is_one_for_all_tenants(terminal: Terminal) -> None:
    """And so it is in a dry run, which says whose they are."""
    chosen = ("deadletter", "replay-all", "--all-tenants", "--limit", "2")
    rows = json.loads(terminal(*chosen, "--dry-run", "--json"))
    assert [row["tenant"] for row in rows] == ["a", "a"]
    said = terminal(*chosen, "--dry-run").splitlines()
    assert said[0].split()[:2] == ["Tenant", "Id"]
    assert said[-2:] == ["a: 2 would be put back.", "b: 0 would be put back."]
    assert terminal(*chosen) == "a: 2 put back.\nb: 0 put back.\n"


def test_dead_letters_of_tenants_are_deleted(terminal: Terminal) -> None:
    """By ids for one tenant, else for several."""
    chosen = ("deadletter", "delete", "--endpoint", "write", "--yes")
    assert terminal(*chosen, "--tenant", "b") == "b: 1 deleted.\n"
    rows = json.loads(terminal("deadletter", "list", "--tenant", "a", "--json"))
    ids = [str(row["id"]) for row in rows]
    command = ("deadletter", "delete", ids[0])
    for given in (["--all-tenants"], ["--tenant", "a", "--tenant", "b"]):
        assert "Ids are those of one tenant" in terminal(*command, *given, code=2)
    assert terminal(*command, "--tenant", "a") == "1 deleted.\n"
    assert terminal(*chosen, "--all-tenants") == "a: 1 deleted.\nb: 0 deleted.\n"


def test_dead_letters_of_tenants_are_purged(terminal: Terminal) -> None:
    """A tenant that isn't there doesn't keep the others from it."""
    command = ("deadletter", "purge", "--older-than", "0m")
    output = terminal(*command, "--tenant", "nobody", "--tenant", "b", code=1)
    assert "nobody: Lack of mapping" in output
    assert "b: 1 deleted." in output
    assert terminal.town.messaging.dead_letters.count(tenant="a") == 2


def test_channels_of_tenants_are_listed_and_emptied(terminal: Terminal) -> None:
    """Of the tenant that is named, and only with ``--force``."""
    town = terminal.town
    for tenant in ("a", "b"):
        for id in ("one", "two"):
            town.insert(tenant, "letters", envelope(id, tenant=tenant))
    listed = json.loads(terminal("list", "--channels", "--tenant", "b", "--json"))
    assert [(row["channel"], row["tenant"], row["ready"]) for row in listed] == [
        ("bells", "b", 0),
        ("letters", "b", 2),
        ("outbox", "b", 0),
    ]
    command = ("channel", "delete", "letters", "--tenant", "b")
    assert "Would be deleted" in terminal(*command)
    assert len(town.queued("bind_b")) == 2
    assert "Deleted." in terminal(*command, "--force")
    assert (len(town.queued("bind_a")), town.queued("bind_b")) == (2, [])
    terminal("channel", "delete", "letters", "bells", "--force")
    assert town.queued("bind_a") == []


@pytest.mark.parametrize("default", [None, "bind_b"])
@pytest.mark.parametrize(
    "command",
    [
        ("deadletter", "list"),
        ("deadletter", "stats"),
        ("deadletter", "show", "1"),
        ("deadletter", "replay", "1"),
        ("deadletter", "replay-all"),
        ("deadletter", "edit", "1", "--body", "1"),
        ("deadletter", "delete", "1"),
        ("deadletter", "delete", "--all", "--yes"),
        ("deadletter", "purge", "--older-than", "0s"),
        ("list", "--channels"),
        ("channel", "delete", "letters", "--force"),
        ("database", "setup"),
        ("database", "delete", "--force"),
        ("deduplication", "remove-expired-messages"),
    ],
    ids=" ".join,
)
def test_a_tenant_that_is_not_mapped_is_refused(
    tmp_path: Path, command: tuple[str, ...], default: str | None
) -> None:
    """With what was probably meant, also where the default connection would take it."""
    urls: dict[str | None, str] = {
        key: f"sqlite:///{tmp_path / key}.sqlite" for key in ("bind_a", "bind_b")
    }
    tenants = MultiTenantConfiguration("tenant", {"alma": "bind_a"}, default)
    terminal = Terminal(Town(urls, tenants))
    for given in (["--tenant", "alam"], ["--header", "tenant:alam"]):
        said = terminal(*command, *given, code=1)
        assert "Lack of mapping for tenant `alam`. Did you mean 'alma'?" in said
        assert ("leave the tenant out" in said) is (default is not None)


def test_tenants_that_a_function_knows_are_asked_for(tmp_path: Path) -> None:
    """They can't be listed, and one that it doesn't know is refused all the same."""
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    tenants = MultiTenantConfiguration("tenant", {"a": "bind_a"}.get)
    terminal = Terminal(Town({"bind_a": url}, tenants))
    assert "no dead letters" in terminal("deadletter", "list", "--tenant", "a")
    said = terminal("deadletter", "list", "--tenant", "b", code=1)
    assert "Lack of mapping for tenant `b`." in said
