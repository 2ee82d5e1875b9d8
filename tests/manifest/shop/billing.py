"""A service with handlers, intercepted from another module."""

from flask_ecotone import command_handler
from flask_ecotone import query_handler

from . import Clock
from .auditing import check
from .messages import Price


class Billing:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.bills = 0

    @command_handler("bill")
    def bill(self, price: Price) -> str:
        self.bills += 1
        return f"{price.amount} at {self.clock.now}"

    @query_handler("bill.count", required_interceptors=[check])
    def count(self) -> int:
        return self.bills
