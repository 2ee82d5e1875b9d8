"""The cart: quantities in the session, names and prices from the catalogue."""

from dataclasses import dataclass
from uuid import uuid4

from flask import g
from flask import session

from flask_ecotone import query_bus

from ..catalogue.messages import FindProducts
from ..catalogue.messages import ProductDetails
from .messages import Item


@dataclass(frozen=True)
class CartLine:
    """One product in the cart."""

    product: ProductDetails
    quantity: int

    @property
    def total(self) -> int:
        """What the line costs today."""
        return self.quantity * self.product.price


@dataclass(frozen=True)
class Cart:
    """What the shopper has picked. Its id becomes the id of the order."""

    cart_id: str
    lines: tuple[CartLine, ...]

    @property
    def total(self) -> int:
        """What the cart costs today."""
        return sum(line.total for line in self.lines)

    @property
    def items(self) -> tuple[Item, ...]:
        """The lines as the order wants them."""
        return tuple(
            Item(line.product.product_id, line.quantity) for line in self.lines
        )


def slot(name: str) -> str:
    """Name a place in the session; each shop has a cart of its own."""
    return f"{g.shop.key} {name}"


def load() -> Cart:
    """Look up what is in the cart. Products that are gone are left out."""
    cart_id = session.setdefault(slot("cart_id"), uuid4().hex)
    found = query_bus.send(FindProducts(tuple(quantities())))
    return Cart(
        cart_id,
        tuple(
            CartLine(found[product_id], quantity)
            for product_id, quantity in quantities().items()
            if product_id in found
        ),
    )


def quantities() -> dict[str, int]:
    """Return the quantity of each product in the cart."""
    return dict(session.get(slot("cart"), {}))


def count() -> int:
    """Count the things in the cart."""
    return sum(quantities().values())


def put(product: ProductDetails, quantity: int) -> int:
    """Set the quantity of *product*, never more than there are; 0 removes it."""
    allowed = max(0, min(quantity, product.stock))
    rest = quantities()
    rest[product.product_id] = allowed
    session[slot("cart")] = {key: value for key, value in rest.items() if value}
    return allowed


def clear() -> None:
    """Start a new cart."""
    session.pop(slot("cart"), None)
    session.pop(slot("cart_id"), None)
