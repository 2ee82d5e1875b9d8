"""Whatever goes through ``db.session`` goes to the database of the active tenant."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenancyError
from flask_ecotone.errors import UnknownTenantError

from .house import A
from .house import B
from .house import House
from .house import MAPPING
from .house import Register
from .house import stored


def test_the_same_key_in_both_databases(house: House) -> None:
    """Tenants with the same primary keys have their own rows, in one app context."""
    with house.app.app_context():
        for metadata, name in ((A, "Alice"), (B, "Bob"), (A, "Anna")):
            number = 2 if name == "Anna" else 1
            command_bus.send(Register(number, name), metadata)
        assert query_bus.send_with_routing("names", metadata=A) == ["Alice", "Anna"]
        assert query_bus.send_with_routing("names", metadata=B) == ["Bob"]
    assert house.stored("bind_a") == [(1, "Alice"), (2, "Anna")]
    assert house.stored("bind_b") == [(1, "Bob")]


def test_an_aggregate_is_kept_by_its_tenant(binds: dict[str, str], trap: str) -> None:
    """A model that is an aggregate is loaded from, and saved to, the tenant."""
    house = House(binds, trap)
    db = house.db

    @aggregate
    class Account(db.Model):
        __tablename__ = "accounts"

        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        name: Mapped[str] = mapped_column(sa.String(50))

        @command_handler("account.open")
        @classmethod
        def open(cls, payload: list[t.Any]) -> Account:
            return cls(id=payload[0], name=payload[1])

        @command_handler("account.rename")
        def rename(self, name: str) -> None:
            self.name = name

        @query_handler("account.name")
        def get_name(self) -> str:
            return self.name

    globals()["Account"] = Account
    house.ecotone.register(Account)
    house.create(*binds.values())
    with house.app.app_context():
        for metadata, name in ((A, "Alice"), (B, "Bob")):
            command_bus.send_with_routing("account.open", [1, name], metadata=metadata)
        at_b = {**B, "aggregate.id": 1}
        command_bus.send_with_routing("account.rename", "Bert", metadata=at_b)
        assert query_bus.send_with_routing("account.name", metadata=at_b) == "Bert"
        at_a = {**A, "aggregate.id": 1}
        assert query_bus.send_with_routing("account.name", metadata=at_a) == "Alice"
    assert stored(binds["bind_a"], "accounts") == [(1, "Alice")]
    assert stored(binds["bind_b"], "accounts") == [(1, "Bert")]
    house.check_clean()


def _core(house: House) -> list[str]:
    table, session = house.customers, house.db.session
    session.execute(sa.insert(table), [{"id": 2, "name": "x"}, {"id": 3, "name": "y"}])
    session.execute(sa.update(table).where(table.c.id == 2).values(name="changed"))
    session.execute(sa.delete(table).where(table.c.id == 3))
    alias, nested = table.alias(), sa.select(table).subquery()
    common = sa.select(table.c.name).cte()
    union = sa.union_all(sa.select(table.c.name), sa.select(table.c.name))
    for query in (sa.select(alias.c.name), sa.select(nested.c.name), sa.select(common)):
        assert sorted(session.scalars(query)) == ["changed", "first"]
    assert len(session.scalars(union).all()) == 4
    return list(session.scalars(sa.select(table.c.name).order_by(table.c.id)))


def _text(house: House) -> list[str]:
    session = house.db.session
    session.execute(sa.text("INSERT INTO customers (id, name) VALUES (2, 'changed')"))
    typed = sa.text("SELECT name FROM customers ORDER BY id").columns(name=sa.String)
    assert session.scalars(typed).all() == ["first", "changed"]
    return list(session.scalars(sa.text("SELECT name FROM customers ORDER BY id")))


def _bulk(house: House) -> list[str]:
    session, model = house.db.session, house.Customer
    session.bulk_save_objects([model(id=2, name="x"), model(id=3, name="y")])
    session.bulk_insert_mappings(model, [{"id": 4, "name": "z"}])
    session.bulk_update_mappings(model, [{"id": 2, "name": "changed"}])
    session.execute(sa.delete(model).where(model.id > 2))
    return list(session.scalars(sa.select(model.name).order_by(model.id)))


def _query(house: House) -> list[str]:
    model = house.Customer
    house.db.session.add(model(id=2, name="x"))
    assert model.query.count() == 2
    model.query.filter_by(id=2).update({"name": "changed"})
    assert house.db.session.get(model, 1).name == "first"
    assert house.db.first_or_404(sa.select(model).filter_by(id=1)).name == "first"
    return [customer.name for customer in model.query.order_by(model.id)]


def _lazy(house: House) -> list[str]:
    session, model = house.db.session, house.Customer
    session.add(model(id=2, name="changed", orders=[house.Order(id=1, what="milk")]))
    session.flush()
    session.expire_all()
    assert [o.what for o in session.get(model, 2).orders] == ["milk"]
    session.expunge_all()
    joined = sa.select(model.name, house.Order.what).join(house.Order)
    assert session.execute(joined).all() == [("changed", "milk")]
    return [c.name for c in session.scalars(sa.select(model).order_by(model.id))]


@pytest.mark.parametrize("work", [_core, _text, _bulk, _query, _lazy])
def test_every_way_to_use_the_session(
    binds: dict[str, str], trap: str, work: t.Callable[[House], list[str]]
) -> None:
    """Core, text, bulk, ``Model.query`` and lazy loads find the tenant's rows alone."""
    house = House(binds, trap)

    @command_handler("work")
    def handle() -> list[str]:
        house.db.session.add(house.Customer(id=1, name="first"))
        house.db.session.flush()
        return work(house)

    house.ecotone.register(handle)
    with house.app.app_context():
        for metadata in (A, B):
            found = command_bus.send_with_routing("work", metadata=metadata)
            assert found == ["first", "changed"]
    assert house.everything == {
        "bind_a": [(1, "first"), (2, "changed")],
        "bind_b": [(1, "first"), (2, "changed")],
        "default": [],
    }
    house.check_clean()


def test_models_with_a_bind_key_stay(
    binds: dict[str, str], trap: str, sqlite_url: str, style: str
) -> None:
    """What has a bind of its own keeps it for every tenant, by model and by table."""
    house = House({**binds, "control": sqlite_url}, trap)
    db = house.db

    class Login(db.Model):
        __bind_key__ = "control"
        __tablename__ = "logins"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(50))

    table = Login.__table__

    @command_handler("login")
    def login(name: str) -> int:
        house.write(1, name)
        if style == "orm":
            db.session.add(Login(name=name))
            return len(db.session.scalars(sa.select(Login)).all())
        db.session.execute(sa.insert(table).values(name=name))
        inner = sa.select(table.c.id).where(table.c.id > 0)
        queries = [sa.select(table.c.id), sa.select(inner.subquery().c.id)]
        queries += [sa.select(inner.cte().c.id), sa.select(table.alias().c.id)]
        other = table.alias()
        joined = table.join(other, table.c.id == other.c.id)
        queries.append(sa.select(table.c.id).select_from(joined))
        counts = {len(db.session.execute(query).all()) for query in queries}
        counts.add(len(db.session.execute(sa.union(inner, inner)).all()))
        return counts.pop() if len(counts) == 1 else -1

    house.ecotone.register(login)
    with house.app.app_context():
        db.create_all("control")
        assert command_bus.send_with_routing("login", "Alice", metadata=A) == 1
        assert command_bus.send_with_routing("login", "Bob", metadata=B) == 2
        # No tenant is needed for them.
        assert len(db.session.scalars(sa.select(Login)).all()) == 2
        assert len(db.session.scalars(sa.select(table.c.id)).all()) == 2
    assert stored(sqlite_url, "logins") == [(1, "Alice"), (2, "Bob")]
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == [(1, "Bob")]
    assert house.stored("default") == []


def test_an_application_with_binds_only(binds: dict[str, str], style: str) -> None:
    """There needn't be a default database at all."""
    house = House(binds, style=style)
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        assert query_bus.send_with_routing("names", metadata=A) == ["Alice"]
        with pytest.raises(MissingTenantError):
            command_bus.send(Register(1, "Nobody"))
    assert house.everything == {"bind_a": [(1, "Alice")], "bind_b": []}
    house.check_clean()


def test_a_session_that_was_used_before_is_taken_over(files: dict[str, str]) -> None:
    """A plain ``db`` and an imported ``session`` work, used by another app or not."""
    db = SQLAlchemy()
    session = db.session

    class Customer(db.Model):
        __tablename__ = "customers"

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    older, app = Flask("older"), Flask("newer")
    older.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_BINDS"] = files
    for each in (older, app):
        db.init_app(each)
    with older.app_context():
        db.create_all(None)
        session.add(Customer(id=1, name="Old"))
        session.commit()
        ecotone = Ecotone(
            app,
            packages=[],
            extensions=[MultiTenantConfiguration("tenant", MAPPING)],
        )
        # The app without tenants goes on as it was.
        assert session.scalars(sa.select(Customer.name)).all() == ["Old"]

    @command_handler("register")
    def register(name: str) -> None:
        session.add(Customer(id=1, name=name))

    ecotone.register(register)
    with app.app_context():
        for engine in db.engines.values():
            db.metadata.create_all(engine)
        command_bus.send_with_routing("register", "Alice", metadata=A)
        command_bus.send_with_routing("register", "Bob", metadata=B)
    with older.app_context():
        assert session.scalars(sa.select(Customer.name)).all() == ["Old"]
    assert stored(files["bind_a"]) == [(1, "Alice")]
    assert stored(files["bind_b"]) == [(1, "Bob")]


_MISSING = (
    "Lack of context about tenant in Message Headers. Please add `tenant` header"
    " metadata to your message."
)


def test_without_tenant_the_database_is_refused(house: House) -> None:
    """The default database of the application is no way out, in a view neither."""
    uses: list[t.Callable[[], t.Any]] = [
        lambda: command_bus.send(Register(1, "Nobody")),
        lambda: query_bus.send_with_routing("names"),
        lambda: house.names(),
        lambda: house.db.session.execute(sa.text("SELECT 1")),
        lambda: house.db.session.connection(),
    ]
    failures = []

    @house.app.get("/")
    def view() -> str:
        for use in uses:
            with pytest.raises(MissingTenantError) as raised:
                use()
            failures.append(str(raised.value))
        return ""

    with house.app.app_context():
        view()
    assert house.app.test_client().get("/").status_code == 200
    assert failures == [_MISSING] * 2 * len(uses)


def test_the_header_has_the_name_of_the_configuration(plain: House) -> None:
    """The error about a missing tenant names the header that is configured."""
    configuration = MultiTenantConfiguration("shop", MAPPING)
    house = House(plain.binds, configuration=configuration)
    with house.app.app_context():
        with pytest.raises(MissingTenantError, match="add `shop` header metadata"):
            query_bus.send_with_routing("names", metadata=A)
        assert query_bus.send_with_routing("names", metadata={"shop": "tenant_a"}) == []


def test_an_unknown_tenant_is_refused(house: House) -> None:
    """The error is Ecotone's, and doesn't tell the names of other tenants."""
    with house.app.app_context():
        with pytest.raises(UnknownTenantError) as raised:
            command_bus.send(Register(1, "Nobody"), {"tenant": "tenant_c"})
    assert str(raised.value) == (
        "Lack of mapping for tenant `tenant_c`. Please provide mapping for this tenant"
        " or default connection name."
    )
    assert house.everything == {"bind_a": [], "bind_b": [], "default": []}


def test_with_a_default_the_others_share_it(
    binds: dict[str, str], trap: str, style: str
) -> None:
    """Messages without tenant, and those of unmapped tenants, use the default."""
    house = House(
        {**binds, "shared": trap},
        style=style,
        configuration=MultiTenantConfiguration("tenant", MAPPING, "shared"),
    )
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        command_bus.send(Register(1, "Nobody"))
        command_bus.send(Register(2, "Carol"), {"tenant": "tenant_c"})
        with pytest.raises(ValueError):
            command_bus.send(Register(3, "bad"), {"tenant": "tenant_c"})
        with pytest.raises(ValueError):
            command_bus.send(Register(3, "bad"))
        shared = ["Nobody", "Carol"]
        for metadata in ({}, {"tenant": "tenant_c"}, {"tenant": "tenant_d"}):
            assert query_bus.send_with_routing("names", metadata=metadata) == shared
        assert house.names() == shared
        assert query_bus.send_with_routing("names", metadata=A) == ["Alice"]
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("shared") == [(1, "Nobody"), (2, "Carol")]
    house.check_clean()


@pytest.mark.parametrize("tenant", [1, "1"])
def test_tenants_may_be_numbers(files: dict[str, str], tenant: t.Any) -> None:
    """In the header and in the mapping a number and its text are one tenant."""
    for key in (1, "1"):
        house = House(
            files, configuration=MultiTenantConfiguration("tenant", {key: "bind_a"})
        )
        with house.app.app_context():
            found = query_bus.send_with_routing("names", metadata={"tenant": tenant})
            assert found == []
            assert house.connections.engine(tenant) is house.db.engines["bind_a"]


def test_a_failure_leaves_nothing_in_any_database(house: House) -> None:
    """A tenant's transaction is rolled back; its next command is stored."""
    with house.app.app_context():
        for metadata in (A, B):
            with pytest.raises(ValueError, match="bad"):
                command_bus.send(Register(1, "bad"), metadata)
        assert house.everything == {"bind_a": [], "bind_b": [], "default": []}
        command_bus.send(Register(1, "Alice"), A)
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == []


def test_a_constraint_of_one_tenant_is_no_concern_of_another(house: House) -> None:
    """A key that is taken fails for its tenant alone."""
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        with pytest.raises(sa.exc.IntegrityError):
            command_bus.send(Register(1, "Anna"), A)
        command_bus.send(Register(1, "Bob"), B)
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == [(1, "Bob")]


def test_a_kept_session_stays_with_its_tenant(house: House) -> None:
    """A session that code holds on to never reads another tenant's database."""
    kept: list[t.Any] = []

    @command_handler("keep")
    def keep() -> None:
        house.names()
        kept.append(house.db.session())

    @command_handler("use")
    def use() -> None:
        with pytest.raises(TenancyError, match="session of the tenant `tenant_a`"):
            kept[0].execute(sa.text("SELECT 1"))

    @command_handler("use without")
    def use_without() -> None:
        with pytest.raises(TenancyError, match="session of no tenant was used while"):
            kept[1].execute(sa.text("SELECT 1"))

    house.ecotone.register(keep, use, use_without)
    with house.app.app_context():
        command_bus.send_with_routing("keep", metadata=A)
        command_bus.send_with_routing("use", metadata=B)
        with pytest.raises(TenancyError, match="while no tenant is active"):
            kept[0].execute(sa.text("SELECT 1"))
        kept.append(house.db.session())
        command_bus.send_with_routing("use without", metadata=B)


def test_an_object_of_the_default_database_is_loaded_from_there(
    binds: dict[str, str], trap: str
) -> None:
    """What the caller loaded, like the current user, isn't read from a tenant."""
    house = House(
        {**binds, "shared": trap},
        configuration=MultiTenantConfiguration("tenant", MAPPING, "shared"),
    )
    users: list[t.Any] = []

    @query_handler("who")
    def who() -> list[str]:
        return [users[0].name, *house.names()]

    house.ecotone.register(who)
    with house.app.app_context():
        command_bus.send(Register(1, "Shared"))
        command_bus.send(Register(1, "Alice"), A)
        users.append(house.db.session.get(house.Customer, 1))
        house.db.session.expire(users[0])
        found = query_bus.send_with_routing("who", metadata=A)
    assert found == ["Shared", "Alice"]
    house.check_clean()
