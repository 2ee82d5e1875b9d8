"""Business interfaces that a view calls for a tenant."""

import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import instant_retry
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import repository_method
from flask_ecotone import sql_write
from flask_ecotone import Version
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenantAlreadyActiveError

from .house import A
from .house import B
from .house import MAPPING
from .house import stored

Tenant = t.Annotated[str | None, Header("tenant")]


@dataclass(frozen=True)
class Renamed:
    """What a product records."""

    name: str


class Shop:
    """An application with two tenants and repositories of one aggregate."""

    def __init__(self, binds: dict[str, str], trap: str, **config: t.Any) -> None:
        self.binds, self.trap = binds, trap
        db = self.db = SQLAlchemy()
        #: How often writing fails before it works.
        self.failures = 0
        self.attempts: list[t.Any] = []
        self.heard: list[tuple[str, str]] = []

        @aggregate
        class Product(WithEvents, db.Model):  # type: ignore[name-defined, misc]
            __tablename__ = "customers"

            id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            name: Mapped[str] = mapped_column(sa.String(50))
            version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)

        class Products(t.Protocol):
            @repository_method
            def get(self, id: int, tenant: Tenant = None) -> Product: ...

            @repository_method
            def find(self, tenant: Tenant, id: int) -> Product | None: ...

            @repository_method
            def save(self, product: Product, tenant: Tenant = None) -> None: ...

            @sql_write("INSERT INTO customers VALUES (:id, 'Plain', 0)")
            def add(self, id: int, tenant: Tenant = None) -> None: ...

            @business_method("add")
            def send(self, id: int, tenant: Tenant = None) -> None: ...

            @business_method("add.thrice")
            def send_thrice(self, id: int, tenant: Tenant = None) -> None: ...

        def attempt(id: int) -> None:
            db.session.add(Product(id=id, name="Sent"))
            db.session.flush()
            self.attempts.append(db.session())
            if len(self.attempts) <= self.failures:
                raise ConnectionError("not yet")

        @command_handler("add")
        def add(id: int) -> None:
            attempt(id)

        @instant_retry(3)
        @command_handler("add.thrice")
        def add_thrice(id: int) -> None:
            attempt(id)

        @event_handler
        def hear(event: Renamed, tenant: t.Annotated[str, Header("tenant")]) -> None:
            self.heard.append((event.name, tenant))

        @command_handler("rename")
        def rename(id: int, products: Products) -> None:
            before = current_message.headers["id"]
            product = products.get(id)
            product.name = "Renamed"
            product.record_that(Renamed("Renamed"))
            products.save(product)
            assert current_message.headers["id"] == before

        @query_handler("name")
        def name(id: int, products: Products) -> str:
            return products.get(id, "tenant_a").name

        self.Product, self.Products = Product, Products
        self.app = Flask("shop")
        self.app.config["SQLALCHEMY_BINDS"] = binds
        self.app.config["SQLALCHEMY_DATABASE_URI"] = trap
        self.app.config.update(config)
        db.init_app(self.app)
        tenants = MultiTenantConfiguration("tenant", MAPPING)
        self.ecotone = Ecotone(packages=[], extensions=[tenants])
        registered = (Product, Products, add, add_thrice, hear, rename, name)
        self.ecotone.register(*registered)
        self.ecotone.init_app(self.app)
        for url in (*binds.values(), trap):
            db.metadata.create_all(sa.create_engine(url, poolclass=sa.pool.NullPool))

    def stored(self, bind: str) -> list[tuple[int, str]]:
        """Return the committed rows, read on a connection of its own."""
        return stored(self.binds[bind])


@pytest.fixture
def new_shop(binds: dict[str, str], trap: str) -> Iterator[t.Callable[..., Shop]]:
    """A function that makes the shop; its default database must stay empty."""
    made: list[Shop] = []

    def make(**config: t.Any) -> Shop:
        made.append(Shop(binds, trap, **config))
        return made[-1]

    yield make
    for shop in made:
        assert stored(trap) == []
        assert list(shop.db.session.registry.registry) == []
        with shop.app.app_context():
            pools = [t.cast(t.Any, e.pool) for e in shop.db.engines.values()]
            assert sum(pool.checkedout() for pool in pools) == 0


def test_a_view_saves_and_loads_for_a_tenant(
    new_shop: t.Callable[..., Shop],
) -> None:
    """A save is committed by the call; what is loaded can be changed and saved."""
    shop = new_shop()

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        products.save(shop.Product(id=1, name="Milk"), "tenant_a")
        products.save(shop.Product(id=1, name="Beer"), tenant="tenant_b")
        assert shop.stored("bind_a") == [(1, "Milk")]
        assert shop.stored("bind_b") == [(1, "Beer")]

        milk = products.get(1, "tenant_a")
        assert milk.name == "Milk"
        assert products.find("tenant_a", 2) is None
        with pytest.raises(AggregateNotFoundError):
            products.get(2, "tenant_b")

        milk.name = "Oat milk"
        milk.record_that(Renamed("Oat milk"))
        products.save(milk, "tenant_a")

    assert shop.stored("bind_a") == [(1, "Oat milk")]
    assert shop.stored("bind_b") == [(1, "Beer")]
    assert shop.heard == [("Oat milk", "tenant_a")]


def test_a_view_that_saves_late_is_told(new_shop: t.Callable[..., Shop]) -> None:
    """Somebody else changed the row since it was loaded: the version says so."""
    shop = new_shop()

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        products.save(shop.Product(id=1, name="Milk"), "tenant_a")
        mine, theirs = products.get(1, "tenant_a"), products.get(1, "tenant_a")
        theirs.name = "Theirs"
        products.save(theirs, "tenant_a")
        mine.name = "Mine"
        with pytest.raises(ConcurrencyError):
            products.save(mine, "tenant_a")

    assert shop.stored("bind_a") == [(1, "Theirs")]


def test_repositories_inside_of_a_message_have_its_tenant(
    new_shop: t.Callable[..., Shop],
) -> None:
    """The call is part of the command then; another tenant is refused."""
    shop = new_shop()

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        products.save(shop.Product(id=1, name="Milk"), "tenant_a")
        command_bus.send_with_routing("rename", 1, metadata=A)
        assert query_bus.send_with_routing("name", 1, metadata=A) == "Renamed"
        with pytest.raises(TenantAlreadyActiveError, match=r"tenant_b.*tenant_a"):
            query_bus.send_with_routing("name", 1, metadata=B)

    assert shop.stored("bind_a") == [(1, "Renamed")]
    assert shop.heard == [("Renamed", "tenant_a")]


def test_without_tenant_nothing_is_loaded(new_shop: t.Callable[..., Shop]) -> None:
    """A call from a view needs a tenant: named, or by a metadata provider."""
    shop = new_shop()
    shop.ecotone.metadata_provider(lambda: {"tenant": "tenant_b"})

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        products.save(shop.Product(id=1, name="Milk"), "tenant_b")
        with pytest.raises(MissingTenantError, match="add `tenant` header metadata"):
            products.get(1)

    with shop.app.test_request_context():
        assert products.get(1).name == "Milk"


@pytest.mark.parametrize("by", ["configuration", "decorator"])
def test_a_call_that_is_a_unit_of_work_is_tried_again(
    new_shop: t.Callable[..., Shop], by: str
) -> None:
    """As a command on the bus is: with a session of its own for each attempt."""
    retries = 2 if by == "configuration" else 0
    shop = new_shop(ECOTONE_INSTANT_RETRIES=retries)
    shop.failures = 2

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        send = products.send if by == "configuration" else products.send_thrice
        send(1, "tenant_a")

    assert shop.stored("bind_a") == [(1, "Sent")]
    assert len(set(map(id, shop.attempts))) == len(shop.attempts) == 3


def test_sql_that_is_a_unit_of_work_is_tried_again(
    new_shop: t.Callable[..., Shop],
) -> None:
    """A statement that the database refused once is executed once more."""
    shop = new_shop(ECOTONE_INSTANT_RETRIES=1)
    refused: list[str] = []

    def refuse(connection: t.Any, cursor: t.Any, statement: str, *rest: t.Any) -> None:
        if "Plain" in statement and not refused:
            refused.append(statement)
            raise ConnectionError("not yet")

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        engine = shop.db.engines["bind_a"]
        sa.event.listen(engine, "before_cursor_execute", refuse)
        products.add(1, "tenant_a")
        products.save(shop.Product(id=2, name="Milk"), "tenant_a")

    assert len(refused) == 1
    assert shop.stored("bind_a") == [(1, "Plain"), (2, "Milk")]


def test_a_call_inside_of_a_command_is_not_tried_again(
    new_shop: t.Callable[..., Shop],
) -> None:
    """Its unit of work is that of the command, which is lost with the failure."""
    shop = new_shop(ECOTONE_INSTANT_RETRIES=0)
    shop.failures = 1

    @command_handler("outer")
    def outer(id: int) -> None:
        products.send_thrice(id)

    shop.ecotone.register(outer)

    with shop.app.app_context():
        products = shop.ecotone.get(shop.Products)
        with pytest.raises(ConnectionError, match="not yet"):
            command_bus.send_with_routing("outer", 1, metadata=A)

    assert len(shop.attempts) == 1
    assert shop.stored("bind_a") == []
