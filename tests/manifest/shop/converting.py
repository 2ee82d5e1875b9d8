"""A converter, and the base of handlers elsewhere: it is there at each boot."""

from decimal import Decimal

from flask_ecotone import command_handler
from flask_ecotone import converter

from .messages import Price


@converter
def price_of(data: dict) -> Price:
    return Price(Decimal(data["amount"]))


class Greeting:
    word = "Hello"

    @command_handler("greet")
    def greet(self) -> str:
        return f"{self.word} from {type(self).__name__}"
