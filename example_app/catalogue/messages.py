"""The language of the catalogue: what others may send, ask, hear and get wrong."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AddProduct:
    """Put a new product on the shelf. Prices are in cents."""

    product_id: str
    name: str
    kind: str
    summary: str
    description: str
    picture: str
    price: int
    stock: int


@dataclass(frozen=True)
class ReserveStock:
    """Take some of a product off the shelf."""

    product_id: str
    quantity: int


@dataclass(frozen=True)
class Restock:
    """Put some of a product back on the shelf."""

    product_id: str
    quantity: int


@dataclass(frozen=True)
class StockWasReserved:
    """Everything that an order needs was set aside."""

    order_id: str


@dataclass(frozen=True)
class ListProducts:
    """Ask for the whole catalogue."""


@dataclass(frozen=True)
class FindProducts:
    """Ask for some products; unknown ids are left out."""

    product_ids: tuple[str, ...]


@dataclass(frozen=True)
class GetProduct:
    """Ask for one product."""

    product_id: str


@dataclass(frozen=True)
class ProductDetails:
    """The answer to the queries above."""

    product_id: str
    name: str
    kind: str
    summary: str
    description: str
    picture: str
    price: int
    stock: int


class OutOfStock(Exception):
    """More was asked for than there is on the shelf."""

    def __init__(self, name: str, left: int) -> None:
        """Remember the product's *name* and how many are *left*."""
        self.name = name
        self.left = left
        super().__init__(
            f"Only {left} of {name} left." if left else f"{name} is sold out."
        )
