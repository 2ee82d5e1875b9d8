"""Two shops, one application: what happens in one leaves the other as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from example_app.demo import prepare
from example_app.shops.shop import databases

from .shopper import open_shops
from .shopper import orders
from .shopper import Shopper
from .shopper import stock
from .shopper import stored


@pytest.fixture
def mixed_app(postgres_url: str, mariadb_url: str) -> Flask:
    """Hedgerow on PostgreSQL, Riverside on MariaDB."""
    return open_shops(postgres_url, mariadb_url)


def badges(html: str) -> list[str]:
    """Return what the badges of a page say."""
    found = re.findall(r'<span class="database">.*?</svg>(.*?)</span>\n', html, re.S)
    return [" ".join(re.sub("<[^>]*>", "", badge).split()) for badge in found]


def test_front_page_shows_both_shops_with_their_databases(app: Flask) -> None:
    """Each window has the shop's own greeting and figures, and its database's name."""
    page = app.test_client().get("/").text
    assert badges(page) == [
        "Database: SQLite hedge.sqlite",
        "Database: SQLite river.sqlite",
    ]
    for text in ("From where the wood meets", "Roasted where the river slows down"):
        assert text in page
    for text in ('href="/hedgerow/"', 'href="/riverside/"'):
        assert text in page
    assert "<dd>135</dd>" in page
    assert "<dd>113</dd>" in page


def test_badges_name_databases_of_two_kinds(
    mixed_app: Flask, postgres_url: str, mariadb_url: str
) -> None:
    """The connections of both tenants say themselves what they lead to."""
    names = [sa.make_url(url).database for url in (postgres_url, mariadb_url)]
    expected = [f"Database: PostgreSQL {names[0]}", f"Database: MariaDB {names[1]}"]
    client = mixed_app.test_client()
    assert badges(client.get("/").text) == expected
    assert badges(client.get("/hedgerow/").text) == expected[:1]
    assert badges(client.get("/riverside/cart").text) == expected[1:]


def test_demo_keeps_configured_databases(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    postgres_url: str,
    mariadb_url: str,
) -> None:
    """The demo sets up what the environment names, once, and keeps the orders."""
    monkeypatch.setenv("HEDGEROW_DATABASE_URL", postgres_url)
    monkeypatch.setenv("RIVERSIDE_DATABASE_URL", mariadb_url)
    ada = Shopper(prepare(databases(tmp_path)), "riverside")
    ada.pick("small-pot")
    ada.order()

    page = prepare(databases(tmp_path)).test_client().get("/").text
    kinds = [badge.split()[1] for badge in badges(page)]
    assert kinds == ["PostgreSQL", "MariaDB"]
    assert "<dd>135</dd>" in page
    assert "<dd>112</dd>" in page


@pytest.mark.parametrize(
    "path", ["/", "/products/small-pot", "/cart", "/orders", "/sales"]
)
def test_every_page_is_of_its_shop(app: Flask, path: str) -> None:
    """Colour, name, links and badge follow from the address."""
    pages = {}
    for shop in ("hedgerow", "riverside"):
        pages[shop] = page = Shopper(app, shop).get(path).text
        assert f'data-shop="{shop}"' in page
        assert f"· {shop.capitalize()}</title>" in page
        assert f'href="/{shop}/cart"' in page
        assert len(badges(page)) == 1
    assert "/riverside" not in pages["hedgerow"]
    assert "/hedgerow" not in pages["riverside"]
    assert badges(pages["hedgerow"]) != badges(pages["riverside"])


def test_shops_sell_their_own_products(ada: Shopper) -> None:
    """One catalogue does not show the other, and an id in both is two products."""
    river = ada.at("riverside")
    assert "Forest Floor" in ada.get("/").text
    assert "Forest Floor" not in river.get("/").text
    assert "Millrace" in river.get("/").text
    assert river.get("/products/forest-floor").status_code == 404
    assert "€38.00" in ada.get("/products/small-pot").text
    assert "€34.00" in river.get("/products/small-pot").text


def test_order_leaves_the_other_shop_unchanged(app: Flask, ada: Shopper) -> None:
    """Whatever an order does, every row of the other database stays as it was."""
    before = stored(app, "riverside")
    ada.pick("small-pot")
    path = ada.order().location
    assert path.startswith("/hedgerow/orders/")
    assert stock(app, "small-pot", "hedgerow") == 1
    assert stored(app, "riverside") == before
    ada.post(f"{path}/cancel")
    assert stock(app, "small-pot", "hedgerow") == 2
    assert stored(app, "riverside") == before


def test_order_leaves_the_other_kind_of_database_unchanged(mixed_app: Flask) -> None:
    """The same, between PostgreSQL and MariaDB, in both directions."""
    ada = Shopper(mixed_app, "hedgerow")
    before = stored(mixed_app, "riverside")
    ada.pick("small-pot")
    assert "Confirmed" in ada.get(ada.order().location).text
    assert stored(mixed_app, "riverside") == before

    river = ada.at("riverside")
    before = stored(mixed_app, "hedgerow")
    river.pick("small-pot", 2)
    path = river.order().location
    assert "€68.00" in river.get(path).text
    river.post(f"{path}/cancel")
    assert stored(mixed_app, "hedgerow") == before
    assert stock(mixed_app, "small-pot", "riverside") == 6


def test_refused_order_leaves_both_shops_unchanged(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """A failing handler undoes its own shop's transaction; the other had none."""
    ada.pick("small-pot", 2)
    ada.pick("forest-floor")
    grace.pick("small-pot")
    grace.order()
    before = stored(app, "hedgerow"), stored(app, "riverside")
    assert ada.order().status_code == 409
    assert (stored(app, "hedgerow"), stored(app, "riverside")) == before


def test_each_shop_has_its_own_cart(app: Flask, ada: Shopper) -> None:
    """One browser fills two carts, and emptying one keeps the other."""
    river = ada.at("riverside")
    ada.pick("small-pot")
    assert "Your cart is empty" in river.get("/cart").text
    river.pick("small-pot", 3)
    assert "€38.00" in ada.get("/cart").text
    assert "€102.00" in river.get("/cart").text
    ada.order()
    assert "Your cart is empty" in ada.get("/cart").text
    assert "€102.00" in river.get("/cart").text
    assert (orders(app, "hedgerow"), orders(app, "riverside")) == (1, 0)


def test_checkout_of_one_shop_is_not_accepted_in_the_other(
    app: Flask, ada: Shopper
) -> None:
    """A form carries the cart of its shop, which the other shop does not know."""
    river = ada.at("riverside")
    ada.pick("small-pot")
    river.pick("small-pot")
    answer = river.post("/checkout", **ada.filled_form())
    assert river.get(answer.location).status_code == 404
    assert (orders(app, "hedgerow"), orders(app, "riverside")) == (0, 0)


def test_order_is_not_found_in_the_other_shop(app: Flask, ada: Shopper) -> None:
    """Not even by its own shopper, neither to see it nor to cancel it."""
    river = ada.at("riverside")
    ada.pick("forest-floor")
    number = ada.order().location.rpartition("/")[2]
    assert ada.get(f"/orders/{number}").status_code == 200
    assert river.get(f"/orders/{number}").status_code == 404
    assert river.post(f"/orders/{number}/cancel").status_code == 404
    assert "No orders yet" in river.get("/orders").text
    assert stock(app, "forest-floor") == 23


def test_front_page_follows_what_is_sold(app: Flask, ada: Shopper) -> None:
    """The figures of one window change, those of the other do not."""
    ada.pick("elderflower-white", 2)
    ada.order()
    page = ada.client.get("/").text
    hedgerow, riverside = page.split('<li class="window"')[1:]
    for text in ("<dd>133</dd>", "<dd>2</dd>", "<dd>€32.80</dd>"):
        assert text in hedgerow
    for text in ("<dd>113</dd>", "<dd>0</dd>", "<dd>€0.00</dd>"):
        assert text in riverside


@pytest.mark.parametrize("path", ["/nowhere", "/meadow/", "/hedgerows/cart", "/cart"])
def test_unknown_shops_are_404(app: Flask, path: str) -> None:
    """An address outside of both shops leads back to the page with both."""
    page = app.test_client().get(path)
    assert page.status_code == 404
    assert "Nothing grows here" in page.text
    assert "Back to the shops" in page.text
    assert badges(page.text) == []


def test_default_databases_are_files_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without configuration each shop has a SQLite file; a variable changes one."""
    monkeypatch.delenv("HEDGEROW_DATABASE_URL", raising=False)
    monkeypatch.setenv("RIVERSIDE_DATABASE_URL", "sqlite:////srv/river.db")
    assert databases(Path("/srv")) == {
        "hedgerow": "sqlite:////srv/hedgerow.db",
        "riverside": "sqlite:////srv/river.db",
    }
    assert databases()["hedgerow"] == "sqlite:///hedgerow.db"
