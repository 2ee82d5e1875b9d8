"""A shopper at the test client, and a look behind the counter."""

from __future__ import annotations

import re
import typing as t

from flask import Flask
from sqlalchemy import func
from sqlalchemy import select
from werkzeug.test import TestResponse

from example_app import create_app
from example_app.catalogue.messages import GetProduct
from example_app.extensions import db
from example_app.ordering.order import Order
from example_app.seed import seed
from flask_ecotone import query_bus

ADDRESS = {
    "name": "Ada Lovelace",
    "email": "ada@example.com",
    "street": "12 Hedge Lane",
    "postcode": "AB1 2CD",
    "city": "Woodend",
}


def open_shop(database_url: str) -> Flask:
    """Build the application on a database with full shelves."""
    app = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": database_url})

    with app.app_context():
        db.create_all()
        seed()

    return app


def stock(app: Flask, product_id: str) -> int:
    """Return how many are left on the shelf."""
    with app.app_context():
        return t.cast(int, query_bus.send(GetProduct(product_id)).stock)


def orders(app: Flask) -> int:
    """Return how many orders are stored, whoever placed them."""
    with app.app_context():
        return db.session.scalar(select(func.count()).select_from(Order)) or 0


class Shopper:
    """A browser with its own session that fills in hidden fields by itself."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()

    def get(self, path: str) -> TestResponse:
        """Open a page."""
        return self.client.get(path)

    def post(self, path: str, **data: object) -> TestResponse:
        """Send a form of this shop."""
        data["csrf_token"] = _hidden(self.get("/"), "csrf_token")
        return self.client.post(path, data=data)

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
