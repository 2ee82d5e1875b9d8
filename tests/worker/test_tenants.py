"""One worker for the databases of all tenants."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.errors import ConfigurationError

from .town import BINDS
from .town import envelope
from .town import Send
from .town import Town
from .town import until

RUN = ["ecotone", "run", "letters", "--stopOnFailure", "--executionTimeLimit=60000"]


def fail() -> None:
    raise ValueError("no ink")


def test_one_worker_handles_the_messages_of_each_tenant(town: Town) -> None:
    """In the tenant's database; a later run takes what came later (L-1)."""
    town.baptise("a", "Ann", "Abe")
    assert (len(town.queued("bind_a")), town.queued("bind_b")) == (2, [])
    runner = town.app.test_cli_runner()
    result = runner.invoke(args=[*RUN, "--finishWhenNoMessages"])
    assert result.exit_code == 0, result.output
    assert "2 messages handled, 0 failed" in result.output
    town.baptise("b", "Bea")
    letters = ["letter Ann", "letter Abe"]
    assert town.book("bind_a") == ["baptism Ann", "baptism Abe", *letters]
    assert town.book("bind_b") == ["baptism Bea"]
    assert runner.invoke(args=[*RUN, "--finishWhenNoMessages"]).exit_code == 0
    assert len(town.book("bind_a")) == 4
    assert town.book("bind_b") == ["baptism Bea", "letter Bea"]
    assert town.handled() == [("a", "Ann"), ("a", "Abe"), ("b", "Bea")]


def test_a_failed_command_of_a_tenant_sends_nothing(town: Town) -> None:
    """Its rows and messages are rolled back together; the next one is whole (L-2)."""
    with pytest.raises(ValueError, match="no water"):
        town.baptise("a", "Ann", fails=True)
    assert (town.book("bind_a"), town.queued("bind_a")) == ([], [])
    town.baptise("b", "Bea")
    town.baptise("a", "Abe")
    assert town.work().handled == 2
    assert town.book("bind_a") == ["baptism Abe", "letter Abe"]
    assert town.book("bind_b") == ["baptism Bea", "letter Bea"]


def test_short_runs_take_turns_among_tenants(town: Town) -> None:
    """The second run of a process goes on where the first one ended (L-42)."""
    town.baptise("a", "Ann", "Abe")
    town.baptise("b", "Bea", "Bob")
    for _ in range(2):
        assert town.work("letters", handled=1).handled == 1
    assert {tenant for tenant, _ in town.handled()} == {"a", "b"}
    for _ in range(2):
        town.work("letters", handled=1)
    assert len(town.book("bind_a")) == len(town.book("bind_b")) == 4


def test_what_a_handler_sends_goes_to_its_tenant(town: Town) -> None:
    """The tenant is active meanwhile: hooks are called, around each message."""
    town.baptise("b", "loud Bea")
    town.seen.clear()
    town.work("letters")
    assert (town.queued("bind_a"), town.queued("bind_b")) == ([], ["ring"])
    assert town.seen == [
        ("begin", "b", ""),
        ("letter", "b", "loud Bea"),
        ("end", "b", ""),
    ]
    town.work("bells")
    assert town.seen[3:] == [
        ("begin", "b", ""),
        ("bell", "b", "loud Bea"),
        ("end", "b", ""),
    ]
    assert town.book("bind_a") == []


def test_the_default_connection_is_emptied_too(
    urls: dict[str | None, str], tmp_path: Path
) -> None:
    """Messages of tenants that share it keep their tenant, those of none have none."""
    urls[None] = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    default = SQLAlchemyConnectionReference.default_connection()
    town = Town(urls, MultiTenantConfiguration("tenant", BINDS, default))
    town.baptise("small", "Sue")
    town.baptise(None, "Nat")
    town.baptise("a", "Ann")
    assert len(town.queued(None)) == 2
    result = town.app.test_cli_runner().invoke(args=[*RUN, "--finish-when-no-messages"])
    assert result.exit_code == 0, result.output
    assert set(town.handled()) == {("small", "Sue"), (None, "Nat"), ("a", "Ann")}
    assert town.book(None)[2:] == ["letter Sue", "letter Nat"]
    assert town.book("bind_b") == []


def test_dead_letters_are_those_of_the_tenant(town: Town) -> None:
    """The other tenant has none, and a replay goes back to where it came from."""
    town.baptise("a", "Ann")
    town.baptise("b", "Bea")
    town.acts["Ann"] = fail
    assert town.work().failed == 2
    letters = town.messaging.dead_letters
    assert (letters.count(tenant="a"), letters.count(tenant="b")) == (1, 0)
    (parked,) = letters.list(tenant="a")
    assert (parked.error_message, parked.attempts) == ("no ink", 2)
    assert json.loads(parked.headers)["tenant"] == "a"
    assert town.book("bind_b") == ["baptism Bea", "letter Bea"]
    del town.acts["Ann"]
    assert letters.replay(parked.id, tenant="a") == 1
    assert (town.queued("bind_a"), town.queued("bind_b")) == (["write"], [])
    town.work()
    assert town.book("bind_a") == ["baptism Ann", "letter Ann"]
    assert letters.count(tenant="a") == 0


def test_what_cannot_be_read_is_parked_for_its_tenant(town: Town) -> None:
    """Although nothing in it says whose it is."""
    town.insert("b", "letters", Envelope("write", "x", b"\xff", "{"))
    town.baptise("b", "Bea")
    town.work()
    letters = town.messaging.dead_letters
    assert (letters.count(tenant="a"), letters.count(tenant="b")) == (0, 1)
    assert town.handled() == [("b", "Bea")]


def test_each_tenant_remembers_what_it_has_handled(town: Town) -> None:
    """A message comes once for each of them, whatever the others had."""
    for tenant in ("a", "a", "b"):
        town.insert(tenant, "letters", envelope("same", tenant=tenant))
    assert town.work().handled == 3
    assert sorted(town.handled()) == [("a", "Ann"), ("b", "Ann")]
    query = f"SELECT {sa.Column('key')} FROM ecotone_handled"
    for bind in BINDS.values():
        if "mysql" not in town.urls[bind]:
            assert town.rows(bind, query) == [("same",)]


def test_retries_and_delays_wait_in_the_tenant_s_database(town: Town) -> None:
    """Also while others are worked for."""
    town.insert("a", "letters", envelope("later", tenant="a").postponed(3_600_000))
    town.insert("a", "letters", Envelope("gone", "gone", b"{}", '{"tenant": "a"}'))
    town.baptise("b", "Bea")
    outcome = town.work()
    assert (outcome.handled, outcome.failed) == (1, 1)
    assert town.queued("bind_b") == []
    found = [r for r in town.messaging.describe() if r["channel"] == "letters"]
    assert {row["tenant"]: row["delayed"] for row in found} == {"a": 2, "b": 0}


def test_a_running_worker_hears_of_new_tenants(urls: dict[str | None, str]) -> None:
    """Those that a function names later, and those that are added to the process."""
    named = ["a"]
    configuration = MultiTenantConfiguration("tenant", BINDS.get, names=lambda: named)
    town = Town(urls, configuration)
    with town.working():
        town.baptise("a", "Ann")
        until(lambda: ("a", "Ann") in town.handled())
        town.baptise("b", "Bea")
        named.append("b")
        until(lambda: ("b", "Bea") in town.handled())
    assert town.book("bind_b") == ["baptism Bea", "letter Bea"]


def test_a_tenant_is_added_to_a_running_worker(
    urls: dict[str | None, str], tmp_path: Path
) -> None:
    """Our tables are made in its database, and it can be removed again."""
    town = Town(urls)
    town.urls["new"] = f"sqlite:///{tmp_path / 'new.sqlite'}"
    town.entry.__table__.create(engine := sa.create_engine(town.urls["new"]))
    engine.dispose()
    with town.working():
        with town.app.app_context():
            town.ecotone.add_tenant("c", town.urls["new"])
        town.baptise("c", "Cid")
        until(lambda: ("c", "Cid") in town.handled())
        with town.app.app_context():
            town.ecotone.remove_tenant("c")
        town.baptise("a", "Ann")
        until(lambda: ("a", "Ann") in town.handled())
    assert town.book("new") == ["baptism Cid", "letter Cid"]


def test_names_are_asked_in_an_app_context_and_kept_when_that_fails(
    urls: dict[str | None, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The catalogue of tenants may be a table that all of them share."""
    monkeypatch.setattr("flask_ecotone.tenancy.listing._GOOD_FOR", 0)
    urls["catalogue"] = f"sqlite:///{tmp_path / 'catalogue.sqlite'}"
    query = sa.text("SELECT name FROM parish ORDER BY name")

    def names() -> list[str]:
        engine = town.db.engines["catalogue"]
        return list(town.db.session.scalars(query, bind_arguments={"bind": engine}))

    configuration = MultiTenantConfiguration("tenant", BINDS.get, names=names)
    town = Town(urls, configuration)
    catalogue = sa.create_engine(urls["catalogue"])
    with catalogue.begin() as connection:
        connection.execute(sa.text("CREATE TABLE parish (name TEXT)"))
        connection.execute(sa.text("INSERT INTO parish VALUES ('a'), ('b')"))
    town.baptise("b", "Bea")
    assert town.work().handled == 1
    with catalogue.begin() as connection:
        connection.execute(sa.text("DROP TABLE parish"))
    catalogue.dispose()
    town.baptise("a", "Ann")
    assert town.work().handled == 1
    assert "The tenants can't be listed, so those of before stay" in caplog.text


def test_a_function_without_names_is_refused(tmp_path: Path) -> None:
    """No worker could know whose messages there are."""
    urls: dict[str | None, str] = {"bind_a": f"sqlite:///{tmp_path / 'a'}"}
    town = Town(urls, MultiTenantConfiguration("tenant", BINDS.get))
    result = town.app.test_cli_runner().invoke(args=RUN)
    assert result.exit_code == 1
    assert "no worker can know whose messages there are" in result.output
    with pytest.raises(ConfigurationError, match="'names' is given"):
        MultiTenantConfiguration("tenant", BINDS, names=lambda: ["a"])


@pytest.mark.parametrize("transaction", ["message", "batch"])
def test_tenants_that_share_a_database_are_asked_once(
    tmp_path: Path, transaction: str
) -> None:
    """Their messages keep their tenant, and what they do is committed with them."""
    shared = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    urls: dict[str | None, str] = {"bind_a": shared, "bind_b": shared}
    town = Town(urls, transaction=transaction)
    town.baptise("a", "Ann")
    town.baptise("b", "Bea")
    assert len(town.messaging.channels.get("letters").sources()) == 1
    assert town.work(execution_time=60).reason == "no messages"
    assert town.handled() == [("a", "Ann"), ("b", "Bea")]
    assert town.queued("bind_a") == []


def test_databases_in_memory_are_databases_of_their_own() -> None:
    """Although they have the same address."""
    town = Town({"bind_a": "sqlite://", "bind_b": "sqlite://"}, creates=False)
    with town.app.app_context():
        town.ecotone.setup_database()
    town.baptise("a", "Ann")
    town.baptise("b", "Bea")
    assert town.work().handled == 2


def test_the_outbox_of_each_tenant_is_relayed(town: Town) -> None:
    """What comes out of another channel is handled for the tenant that sent it."""
    for tenant, name in ("a", "Ann"), ("b", "Bea"):
        with town.app.app_context():
            town.ecotone.command_bus.send(Send(name), {"tenant": tenant})
    assert (town.queued("bind_a"), town.queued("bind_b")) == (["send"], ["send"])
    town.work("outbox")
    assert (town.queued("bind_a"), town.queued("bind_b")) == ([], [])
    assert town.handled("parcel") == []
    town.work("carrier")
    assert sorted(town.handled("parcel")) == [("a", "Ann"), ("b", "Bea")]
    assert town.book("bind_a") == ["parcel Ann"]
    assert town.book("bind_b") == ["parcel Bea"]


def test_schemas_have_channels_of_their_own(postgres_url: str) -> None:
    """In one database, with one connection that tells of messages."""
    reference = SQLAlchemyConnectionReference.in_schema
    mapping = {name: reference(f"parish_{name}", "bind") for name in ("a", "b")}
    configuration = MultiTenantConfiguration("tenant", mapping)
    town = Town({"bind": postgres_url}, configuration, creates=False)
    with town.app.app_context():
        town.ecotone.setup_database()
    town.baptise("a", "Ann")
    town.baptise("b", "loud Bea")
    assert town.work().handled == 3
    assert sorted(town.handled()) == [("a", "Ann"), ("b", "loud Bea")]
    assert town.handled("bell") == [("b", "loud Bea")]
    for schema, count in ("parish_a", 2), ("parish_b", 3):
        query = f"SELECT count(*) FROM {schema}.entry"
        assert town.rows("bind", query) == [(count,)]


def test_more_tenants_than_engines(tmp_path: Path) -> None:
    """A worker opens their databases in turn, and none of them is forgotten."""
    configuration = MultiTenantConfiguration("tenant", {}, max_engines=1)
    town = Town({None: f"sqlite:///{tmp_path / 'default.sqlite'}"}, configuration)
    for name in ("x", "y", "z"):
        town.urls[name] = f"sqlite:///{tmp_path / name}.sqlite"
        town.create(name)
        with town.app.app_context():
            town.ecotone.add_tenant(name, town.urls[name])
        town.baptise(name, f"loud {name}")
    assert town.work().handled == 6
    for name in ("x", "y", "z"):
        assert town.book(name)[1:] == [f"letter loud {name}", f"bell loud {name}"]
