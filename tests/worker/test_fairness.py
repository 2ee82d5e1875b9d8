"""Nobody starves: each channel of each tenant has its turn."""

from __future__ import annotations

from pathlib import Path

from flask_ecotone import MultiTenantConfiguration

from .town import envelope
from .town import Town
from .town import until

BATCH = 20
MANY = 10_000


def test_a_flood_of_one_tenant_holds_up_nobody(town: Town) -> None:
    """The single message of another one is handled within a round."""
    town.flood("a", MANY)
    town.baptise("b", "Bea")
    assert town.work("letters", handled=BATCH + 1).handled == BATCH + 1
    assert ("b", "Bea") in town.handled()
    assert len(town.queued("bind_a")) == MANY - BATCH


def test_what_comes_during_a_flood_waits_for_one_batch(town: Town) -> None:
    """Whoever comes while another one has the turn is the next."""
    town.flood("a", 200)
    town.acts["50"] = lambda: town.insert("b", "letters", envelope("one", tenant="b"))
    town.work("letters", handled=200)
    handled = town.handled()
    arrived, seen = handled.index(("a", "50")), handled.index(("b", "Ann"))
    assert seen - arrived <= BATCH


def test_a_flood_in_one_channel_holds_up_no_other(town: Town) -> None:
    """A worker of several channels takes turns among them as well."""
    town.flood("a", 500)
    for tenant in ("a", "b"):
        town.flood(tenant, 1, "ring")
    rounds = 3 * BATCH
    assert town.work("letters", "bells", handled=rounds).handled == rounds
    assert sorted(town.handled("bell")) == [("a", "0"), ("b", "0")]


def test_floods_share_the_worker(town: Town) -> None:
    """Two tenants with a lot to do are handled alike."""
    town.flood("a", 200)
    town.flood("b", 200)
    town.work("letters", handled=100)
    handled = [tenant for tenant, _ in town.handled()]
    assert abs(handled.count("a") - handled.count("b")) <= BATCH


def test_each_of_many_tenants_has_its_turn(tmp_path: Path) -> None:
    """One round is enough for all that have little to do."""
    names = [f"t{number}" for number in range(30)]
    urls: dict[str | None, str] = {
        name: f"sqlite:///{tmp_path / name}.sqlite" for name in names
    }
    town = Town(urls, MultiTenantConfiguration("tenant", {n: n for n in names}))
    town.flood("t7", 200)
    for name in names:
        if name != "t7":
            town.baptise(name, "Sue")
    town.work("letters", handled=29 + BATCH)
    handled = [tenant for tenant, _ in town.handled()]
    assert handled.count("t7") == BATCH
    assert set(handled) == set(names)


def test_threads_are_fair_too(town: Town) -> None:
    """All of them may be busy with a flood when another tenant's message comes."""
    town.flood("a", 1000)
    with town.working("letters", threads=2):
        until(lambda: len(town.handled()) >= 50)
        town.insert("b", "letters", envelope("one", tenant="b"))
        until(lambda: ("b", "Ann") in town.handled())
        assert len(town.handled()) < 1000
