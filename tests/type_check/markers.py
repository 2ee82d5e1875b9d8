"""Checked by mypy, never run: markers return the very type they decorate."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import EndpointMarker
from flask_ecotone import event_handler
from flask_ecotone import FetchMode
from flask_ecotone import Header
from flask_ecotone import instant_retry
from flask_ecotone import MethodInvocation
from flask_ecotone import named_event
from flask_ecotone import query_handler
from flask_ecotone import repository_method
from flask_ecotone import sql_param
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone import SqlParam
from flask_ecotone import WithEvents


@named_event("order.was_placed")
@dataclass(frozen=True)
class OrderWasPlaced:
    order_id: str


@dataclass(frozen=True)
class PlaceOrder:
    order_id: str


class Audited(EndpointMarker):
    pass


@aggregate
class Order(WithEvents):
    @command_handler
    @classmethod
    def place(cls, command: PlaceOrder) -> t.Self:
        return cls()

    @classmethod
    @command_handler("order.import")
    def take_over(cls, command: PlaceOrder) -> t.Self:
        return cls()

    @Audited()
    @instant_retry(3)
    @command_handler("order.cancel")
    def cancel(self, reason: t.Annotated[str, Header("reason")]) -> bool:
        return bool(reason)

    @query_handler("order.status")
    def status(self) -> str:
        return "new"


@event_handler
def notify(event: OrderWasPlaced) -> None: ...


@event_handler(listen_to="order.*")
def log(event: OrderWasPlaced) -> None: ...


@console_command("orders:import", "Imports orders.")
def import_orders(file: str, limit: int = 10) -> None: ...


@before(pointcut=CommandBus)
def check(payload: object) -> None: ...


@around(pointcut=Audited & ~Audited)
def audit(invocation: MethodInvocation) -> t.Any:
    return invocation.proceed()


class Orders(t.Protocol):
    @repository_method
    def get(self, order_id: str) -> Order: ...

    @business_method("order.status")
    def status(self, order_id: str) -> str: ...

    @sql_param("today", expression="'2024-02-29'", convert_to="application/json")
    @sql_query("SELECT id FROM orders WHERE day = :today", FetchMode.FIRST_COLUMN)
    def today(self) -> list[str]: ...

    @sql_write("DELETE FROM orders WHERE id = :id", bind="archive")
    def delete(self, order_id: t.Annotated[str, SqlParam("id")]) -> int: ...


t.assert_type(Order.place(PlaceOrder("1")), Order)
t.assert_type(Order.take_over(PlaceOrder("1")), Order)
t.assert_type(Order().cancel("late"), bool)
t.assert_type(Order().status(), str)
t.assert_type(OrderWasPlaced("1"), OrderWasPlaced)
t.assert_type(notify(OrderWasPlaced("1")), None)
t.assert_type(import_orders("file", limit=1), None)
t.assert_type(command_bus, CommandBus)


def use(orders: Orders) -> None:
    t.assert_type(orders.get("1"), Order)
    t.assert_type(orders.status("1"), str)
    t.assert_type(orders.today(), list[str])
    t.assert_type(orders.delete("1"), int)


# A marker that is used wrongly is an error for the type checker too.
command_handler(endpoint="x")  # type: ignore[call-overload]
business_method()  # type: ignore[call-arg]
sql_query()  # type: ignore[call-arg]
sql_write("DELETE FROM orders", fetch=FetchMode.ROWS)  # type: ignore[call-arg]
console_command()  # type: ignore[call-arg]
