"""What the shopkeeper does at the terminal."""

from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import QueryBus

from .messages import ListProducts
from .messages import Restock


@console_command("stock:fill")
def fill_stock(
    writer: ConsoleWriter, query_bus: QueryBus, command_bus: CommandBus, least: int = 10
) -> None:
    """Fill up every product of which fewer than LEAST are left."""
    products = query_bus.send(ListProducts())
    low = [product for product in products if product.stock < least]
    if low:
        with writer.progress_bar(len(low)) as progress:
            for product in low:
                command_bus.send(Restock(product.product_id, least - product.stock))
                progress.advance()
        writer.table(
            ["Product", "Was", "Is"],
            [[product.name, product.stock, least] for product in low],
        )
    writer.success(f"No shelf has fewer than {least}.")
