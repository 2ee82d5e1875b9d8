"""Tenants that are added and removed while the application runs."""

from __future__ import annotations

import gc
import threading
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import UnknownTenantError

from .house import A
from .house import House
from .house import MAPPING
from .house import Register
from .house import stored


@pytest.fixture
def url_of(tmp_path: Path) -> t.Callable[[str], str]:
    """A function that returns the URL of a tenant's file."""
    return lambda name: f"sqlite:///{tmp_path / f'added-{name}.sqlite'}"


class Opened:
    """Counts the driver connections of engines, by bind key."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.connections: dict[str, int] = {}
        lock = threading.Lock()
        house.db._make_engine = self._make(house.db._make_engine, lock)  # type: ignore[method-assign]

    def _make(self, make: t.Callable[..., sa.Engine], lock: t.Any) -> t.Any:
        def make_engine(key: str, *args: t.Any) -> sa.Engine:
            engine = make(key, *args)
            self.connections.setdefault(key, 0)

            def count(by: int) -> t.Callable[..., None]:
                def change(*args: t.Any) -> None:
                    with lock:
                        self.connections[key] += by

                return change

            sa.event.listen(engine, "connect", count(1))
            sa.event.listen(engine, "close", count(-1))
            return engine

        return make_engine

    @property
    def engines(self) -> list[str]:
        """The names of the added tenants with an open engine."""
        with self.house.app.app_context():
            keys = list(self.house.db.engines)
        return [k.removeprefix("tenant:") for k in keys if k and k.startswith("tenant")]

    def open(self) -> int:
        """Return how many driver connections are open."""
        return sum(self.connections.values())


def test_a_tenant_is_added_and_removed(plain: House, url_of: t.Any) -> None:
    """By URL or by bind key; it works at once and is unknown afterwards."""
    house, new = plain, {"tenant": "new"}
    opened = Opened(house)
    with house.app.app_context():
        with pytest.raises(UnknownTenantError):
            command_bus.send(Register(1, "early"), new)
        house.create(url_of("new"), url_of("newer"))
        house.ecotone.add_tenant("new", url_of("new"))
        assert opened.open() == 0
        command_bus.send(Register(1, "Nora"), new)
        house.ecotone.add_tenant("second_a", "bind_a")
        command_bus.send(Register(1, "Alice"), {"tenant": "second_a"})
        assert query_bus.send_with_routing("names", metadata=A) == ["Alice"]
        house.ecotone.remove_tenant("second_a")
        house.ecotone.remove_tenant("new")
        assert opened.open() == 0
        assert opened.engines == []
        for name in ("new", "second_a"):
            with pytest.raises(UnknownTenantError):
                command_bus.send(Register(2, "late"), {"tenant": name})
        # The name may come back, with another database.
        house.ecotone.add_tenant("new", url_of("newer"))
        command_bus.send(Register(3, "Nina"), new)
    assert stored(url_of("new")) == [(1, "Nora")]
    assert stored(url_of("newer")) == [(3, "Nina")]


def test_mistakes_in_adding(plain: House, url_of: t.Any) -> None:
    """A tenant that exists, a place that doesn't, and a tenant that wasn't added."""
    house = plain
    with house.app.app_context():
        with pytest.raises(ConfigurationError, match="'tenant_a' exists already"):
            house.ecotone.add_tenant("tenant_a", url_of("new"))
        house.ecotone.add_tenant("new", url_of("new"))
        with pytest.raises(ConfigurationError, match="'new' exists already"):
            house.ecotone.add_tenant("new", url_of("other"))
        with pytest.raises(ConfigurationError, match="neither a bind key \\(bind_a, b"):
            house.ecotone.add_tenant("bad", "bind_x")
        for address in ("nodb://u:secret@h/d", "postgresql://u:secret@h:port/d"):
            with pytest.raises(ConfigurationError, match="nor the URL") as raised:
                house.ecotone.add_tenant("bad", address)
            assert "secret" not in str(raised.value)
        with pytest.raises(UnknownTenantError, match="Did you mean 'new'"):
            house.ecotone.remove_tenant("neu")
        with pytest.raises(UnknownTenantError, match="was not added"):
            house.ecotone.remove_tenant("tenant_a")


def test_added_tenants_may_be_numbers(plain: House, url_of: t.Any) -> None:
    """As those of the mapping: the header may be the number or its text."""
    house, number = plain, t.cast(t.Any, 7)
    with house.app.app_context():
        house.ecotone.add_tenant(number, url_of("seven"))
        with pytest.raises(ConfigurationError, match="'7' exists already"):
            house.ecotone.add_tenant("7", url_of("seven"))
        house.ecotone.setup_database(number)
        command_bus.send(Register(1, "Sven"), {"tenant": 7})
        command_bus.send(Register(2, "Svea"), {"tenant": "7"})
        house.ecotone.remove_tenant(number)
        with pytest.raises(UnknownTenantError):
            command_bus.send(Register(3, "late"), {"tenant": 7})
    assert stored(url_of("seven")) == [(1, "Sven"), (2, "Svea")]


def test_an_app_without_tenants_takes_none(sqlite_url: str) -> None:
    """The error says what would make it take some."""
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from flask_ecotone import Ecotone

    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    with app.app_context():
        with pytest.raises(ConfigurationError, match="Give Ecotone a"):
            ecotone.add_tenant("new", sqlite_url)


def test_engines_are_made_as_those_of_binds(plain: House, tmp_path: Path) -> None:
    """Relative files are in the instance folder, and engine options apply."""
    house = plain
    house.app.instance_path = str(tmp_path / "instance")
    house.app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 3}
    with house.app.app_context():
        house.ecotone.add_tenant("new", "sqlite:///relative.sqlite")
        engine = house.connections.engine("new")
        assert engine.url.database == str(tmp_path / "instance" / "relative.sqlite")
        assert t.cast(sa.QueuePool, engine.pool).size() == 3


def _many(files: dict[str, str], url_of: t.Any, count: int, limit: int) -> House:
    configuration = MultiTenantConfiguration("tenant", MAPPING, max_engines=limit)
    house = House(files, configuration=configuration)
    with house.app.app_context():
        for number in range(count):
            house.create(url_of(f"t{number}"))
            house.ecotone.add_tenant(f"t{number}", url_of(f"t{number}"))
    return house


def test_the_least_recently_used_engines_are_closed(
    files: dict[str, str], url_of: t.Any
) -> None:
    """No more than the cap are open, with their connections; all tenants work."""
    house = _many(files, url_of, 4, 2)
    opened = Opened(house)
    with house.app.app_context():
        for name in ("t0", "t1", "t0", "t2"):
            query_bus.send_with_routing("names", metadata={"tenant": name})
        assert opened.engines == ["t0", "t2"]
        assert opened.open() == 2
        for number in range(4):
            command_bus.send(Register(number, "x"), {"tenant": f"t{number}"})
            assert len(opened.engines) == opened.open() == 2
    for number in range(4):
        assert stored(url_of(f"t{number}")) == [(number, "x")]
    house.check_clean()


@pytest.mark.parametrize("fail", [False, True])
def test_an_engine_in_use_is_not_torn_away(
    files: dict[str, str], url_of: t.Any, fail: bool
) -> None:
    """A unit of work on a closed engine ends as it should, and leaves nothing open."""
    configuration = MultiTenantConfiguration("tenant", MAPPING, "bind_b", max_engines=1)
    house = House(files, configuration=configuration)
    opened = Opened(house)
    results: list[t.Any] = []

    def elsewhere() -> None:
        with house.app.app_context():
            found = query_bus.send_with_routing("names", metadata={"tenant": "t1"})
            results.append(found)

    @command_handler("work")
    def work() -> None:
        house.write(1, "before")
        house.db.session.flush()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert opened.engines == ["t1"]
        with house.app.app_context():
            house.write(2, "in a context")
        house.write(3, "after")
        if fail:
            raise ValueError("bad")

    @command_handler("all")
    def everybody() -> None:
        for name in ("t0", "t1", "t0", "t1", "t0"):
            number = len(
                query_bus.send_with_routing("names", metadata={"tenant": name})
            )
            command_bus.send(Register(10 + number, f"{number}"), {"tenant": name})
        if fail:
            raise ValueError("bad")

    house.ecotone.register(work, everybody)
    with house.app.app_context():
        for name in ("t0", "t1"):
            house.create(url_of(name))
            house.ecotone.add_tenant(name, url_of(name))
        for key, metadata in (("work", {"tenant": "t0"}), ("all", {})):
            if fail:
                with pytest.raises(ValueError, match="bad"):
                    command_bus.send_with_routing(key, metadata=metadata)
            else:
                command_bus.send_with_routing(key, metadata=metadata)
        assert results == [[]]
        assert len(opened.engines) == 1
        assert opened.open() == opened.connections[f"tenant:{opened.engines[0]}"]
    kept = [(1, "before"), (2, "in a context"), (3, "after")]
    kept += [(13, "3"), (14, "4"), (15, "5")]
    assert stored(url_of("t0")) == ([] if fail else kept)
    assert stored(url_of("t1")) == ([] if fail else [(10, "0"), (11, "1")])
    house.check_clean()


def test_a_tenant_may_be_removed_while_it_is_used(plain: House, url_of: t.Any) -> None:
    """The message in progress is finished; nothing of it stays open."""
    house, new = plain, {"tenant": "new"}
    opened = Opened(house)

    @command_handler("leave")
    def leave() -> None:
        house.write(1, "before")
        house.db.session.flush()
        house.ecotone.remove_tenant("new")
        house.write(2, "after")
        command_bus.send(Register(3, "nested"))

    house.ecotone.register(leave)
    with house.app.app_context():
        house.create(url_of("new"))
        house.ecotone.add_tenant("new", url_of("new"))
        command_bus.send_with_routing("leave", metadata=new)
        with pytest.raises(UnknownTenantError):
            query_bus.send_with_routing("names", metadata=new)
    assert stored(url_of("new")) == [(1, "before"), (2, "after"), (3, "nested")]
    assert opened.open() == 0


def test_adding_using_and_removing_at_once(
    files: dict[str, str], url_of: t.Any
) -> None:
    """Threads with more tenants than engines lose nothing and leave nothing open."""
    house = _many(files, url_of, 6, 2)
    opened = Opened(house)
    failures: list[BaseException] = []

    def use(worker: int) -> None:
        try:
            for turn in range(30):
                tenant = {"tenant": f"t{(turn * 5 + worker) % 6}"}
                with house.app.app_context():
                    command_bus.send(
                        Register(worker * 100 + turn, f"{worker}-{turn}"), tenant
                    )
                    found = query_bus.send_with_routing("names", metadata=tenant)
                    assert f"{worker}-{turn}" in found
                    house.ecotone.add_tenant(f"w{worker}", url_of(f"t{worker}"))
                    query_bus.send_with_routing(
                        "names", metadata={"tenant": f"w{worker}"}
                    )
                    house.ecotone.remove_tenant(f"w{worker}")
        except BaseException as error:
            failures.append(error)

    with house.app.app_context():
        house.ecotone.compile()
    threads = [threading.Thread(target=use, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rows = [row for number in range(6) for row in stored(url_of(f"t{number}"))]
    assert len(rows) == len(set(rows)) == 4 * 30
    assert len(opened.engines) <= 2
    gc.collect()
    kept = sum(opened.connections[f"tenant:{name}"] for name in opened.engines)
    assert opened.open() == kept
    house.check_clean()
