"""A shopper at the test client, and a look behind the counter."""

from __future__ import annotations

import re
import typing as t

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.pool import NullPool
from werkzeug.test import TestResponse

from example_app import create_app
from example_app.extensions import db
from example_app.shops.seed import set_up

ADDRESS = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "street": "12 Hedge Lane",
    "postcode": "AB1 2CD",
    "city": "Woodend",
}


def open_shops(hedgerow: str, riverside: str) -> Flask:
    """Build the application on two databases with full shelves."""
    binds = {"hedgerow": hedgerow, "riverside": riverside}
    app = create_app({"TESTING": True, "SQLALCHEMY_BINDS": binds})

    with app.app_context():
        for shop in binds:
            set_up(shop)

    return app


def stored(app: Flask, shop: str) -> dict[str, list[tuple[t.Any, ...]]]:
    """Return all that a shop has stored, read on a connection of its own."""
    url = app.config["SQLALCHEMY_BINDS"][shop]

    with sa.create_engine(url, poolclass=NullPool).connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))))
            for table in db.metadata.sorted_tables
        }


def stock(app: Flask, product_id: str, shop: str = "hedgerow") -> int:
    """Return how many are left on the shelf."""
    rows = stored(app, shop)["product"]
    at = list(db.metadata.tables["product"].c.keys()).index("stock")
    return next(row[at] for row in rows if row[0] == product_id)


def orders(app: Flask, shop: str = "hedgerow") -> int:
    """Return how many orders are stored, whoever placed them."""
    return len(stored(app, shop)["orders"])


class Shopper:
    """A browser with its own session that fills in hidden fields by itself."""

    def __init__(
        self, app: Flask, shop: str = "hedgerow", client: FlaskClient | None = None
    ) -> None:
        self.app = app
        self.shop = shop
        self.client = client or app.test_client()

    def at(self, shop: str) -> Shopper:
        """Walk over to another shop, with the same browser."""
        return Shopper(self.app, shop, self.client)

    def get(self, path: str) -> TestResponse:
        """Open a page of the shop."""
        return self.client.get(self.address(path))

    def post(self, path: str, **data: object) -> TestResponse:
        """Send a form of this shop."""
        data["csrf_token"] = _hidden(self.get("/"), "csrf_token")
        return self.client.post(self.address(path), data=data)

    def address(self, path: str) -> str:
        """Return the address of a page, which may be one already."""
        return path if path.startswith(f"/{self.shop}/") else f"/{self.shop}{path}"

    def pick(self, product_id: str, quantity: int = 1) -> TestResponse:
        """Put something into the cart."""
        return self.post("/cart", product_id=product_id, quantity=quantity)

    def filled_form(self, **changes: object) -> dict[str, object]:
        """Open the checkout and fill in its form."""
        page = self.get("/checkout")
        hidden = {name: _hidden(page, name) for name in ("order_id", "total")}
        return {**hidden, **ADDRESS, **changes}

    def order(self, **changes: object) -> TestResponse:
        """Fill in the checkout form and send it."""
        return self.post("/checkout", **self.filled_form(**changes))


def _hidden(page: TestResponse, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, f"no hidden field {name}"
    return found[1]
