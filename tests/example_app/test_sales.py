"""The report: sales of each product, of each shop, asked in SQL."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from example_app.reporting.sales import GetSales
from example_app.reporting.sales import ProductSales
from flask_ecotone import query_bus

from .shopper import open_shops
from .shopper import Shopper


@pytest.fixture
def app(database_url: str, second_database_url: str) -> Flask:
    """Both shops on SQLite, PostgreSQL and MariaDB in turn."""
    return open_shops(database_url, second_database_url)


def rows(html: str) -> list[list[str]]:
    """Return the cells of the report."""
    found = re.findall(
        r"<tr.*?</tr>", html[html.index('<table class="report"') :], re.S
    )
    return [
        [
            " ".join(re.sub("<[^>]*>", "", cell).split())
            for cell in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)
        ]
        for row in found
    ]


def test_report_counts_what_was_sold_and_what_is_left(app: Flask, ada: Shopper) -> None:
    """Orders add up; cancelled ones do not count; the best earner comes first."""
    for product, quantity in ("forest-floor", 1), ("elderflower-white", 2):
        ada.pick(product, quantity)
        ada.order()
    ada.pick("forest-floor", 3)
    ada.order()
    ada.pick("chamomile-dusk", 5)
    ada.post(f"{ada.order().location}/cancel")

    table = rows(ada.get("/sales").text)
    assert table[0] == ["Product", "Sold", "Revenue", "Left"]
    assert table[1] == ["Forest Floor", "4", "€39.20", "20"]
    assert table[2] == ["Elderflower White", "2", "€32.80", "1"]
    assert table[3] == ["Bramble", "0", "€0.00", "0"]
    assert ["Chamomile Dusk", "0", "€0.00", "40"] in table
    assert table[-1] == ["All products", "6", "€72.00", "129"]
    assert len(table) == 11


def test_report_is_of_its_shop(app: Flask, ada: Shopper) -> None:
    """A product that both shops sell has figures of its own in each."""
    river = ada.at("riverside")
    ada.pick("small-pot")
    ada.order()
    river.pick("small-pot", 2)
    river.order()
    assert ["The Small Pot", "1", "€38.00", "1"] in rows(ada.get("/sales").text)
    assert ["The Small Pot", "2", "€68.00", "4"] in rows(river.get("/sales").text)
    river.post(f"{_order(river)}/cancel")
    assert ["The Small Pot", "1", "€38.00", "1"] in rows(ada.get("/sales").text)
    assert ["The Small Pot", "0", "€0.00", "6"] in rows(river.get("/sales").text)


def test_report_without_sales_says_so(app: Flask, ada: Shopper) -> None:
    """Before the first order there is a table of zeros, and no share of nothing."""
    page = ada.get("/sales").text
    assert "Nothing was sold yet." in page
    assert rows(page)[-1] == ["All products", "0", "€0.00", "135"]
    assert 'class="share"' not in page


def test_answer_is_made_of_plain_numbers(app: Flask, ada: Shopper) -> None:
    """Whatever a database sums up with, the dataclass has integers."""
    ada.pick("small-pot")
    ada.order()
    with app.app_context():
        best = query_bus.send(GetSales(), {"tenant": "hedgerow"}).products[0]
    assert best == ProductSales("small-pot", "The Small Pot", 1, 3800, 1)
    assert {type(best.sold), type(best.revenue), type(best.stock)} == {int}


def _order(shopper: Shopper) -> str:
    found = re.search(r'href="([^"]*/orders/\w+)"', shopper.get("/orders").text)
    assert found
    return found[1]
