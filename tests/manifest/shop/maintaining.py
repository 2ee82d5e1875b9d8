"""A console command, listed by ``flask --help``."""

from flask_ecotone import command_bus
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter

from .messages import Order


@console_command("orders:repeat", "Orders something once more.")
def repeat(product: str, writer: ConsoleWriter) -> None:
    writer.info(command_bus.send(Order(product)))
