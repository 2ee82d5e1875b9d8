"""The pages of one shop, as a browser without JavaScript meets them."""

from __future__ import annotations

import pytest
from flask import Flask

from example_app.pages import money

from .shopper import orders
from .shopper import Shopper
from .shopper import stock


@pytest.mark.parametrize(
    ("cents", "text"),
    [(0, "€0.00"), (5, "€0.05"), (980, "€9.80"), (123450, "€1,234.50")],
)
def test_money_is_written_with_two_decimals(cents: int, text: str) -> None:
    """A price in minor units reads like a price."""
    assert money(cents) == text


# catalogue


def test_catalogue_shows_prices_and_stock(ada: Shopper) -> None:
    """The front page lists every product with its price and what is left."""
    page = ada.get("/")
    assert page.status_code == 200
    for text in ("Forest Floor", "€9.80", "In stock", "3 left", "Sold out"):
        assert text in page.text


def test_sold_out_products_stand_last_and_cannot_be_bought(ada: Shopper) -> None:
    """A product without stock stays visible but has no button."""
    page = ada.get("/")
    assert page.text.index("The Small Pot") < page.text.index("Bramble")
    assert 'name="product_id" value="bramble"' not in page.text
    assert "Add to cart" not in ada.get("/products/bramble").text


def test_product_page_describes_one_product(ada: Shopper) -> None:
    """A product has its own page, with a quantity up to what is left."""
    page = ada.get("/products/elderflower-white")
    assert page.status_code == 200
    assert "forty tins a year" in page.text
    assert 'max="3"' in page.text


# cart


def test_empty_cart_leads_back_to_the_teas(ada: Shopper) -> None:
    """Without anything in it the cart says so, and there is no checkout."""
    assert "Your cart is empty" in ada.get("/cart").text
    assert ada.get("/checkout").location == "/hedgerow/cart"


def test_cart_adds_up(ada: Shopper) -> None:
    """Picking twice adds to the quantity, and the total follows."""
    assert ada.pick("forest-floor").status_code == 303
    ada.pick("forest-floor", 2)
    ada.pick("nettle-mint")
    page = ada.get("/cart")
    assert "Nettle &amp; Mint is in your cart." in page.text
    assert "€29.40" in page.text
    assert "4 items" in page.text
    assert "€35.80" in page.text


def test_cart_line_changes_and_goes(ada: Shopper) -> None:
    """The buttons of a line set its quantity; none left means no line."""
    ada.pick("forest-floor", 3)
    ada.post("/cart/forest-floor", quantity=2)
    assert "2 items" in ada.get("/cart").text
    ada.post("/cart/forest-floor", quantity=0)
    assert "Forest Floor was taken out" in ada.get("/cart").text


def test_cart_takes_no_more_than_there_are(ada: Shopper) -> None:
    """Asking for too many puts in what is left and says why."""
    ada.pick("elderflower-white", 99)
    page = ada.get("/cart")
    assert "Only 3 of Elderflower White left." in page.text
    assert "3 items" in page.text


@pytest.mark.parametrize("quantity", ["", "many", "-4", "1.5", "9" * 5000])
def test_cart_survives_odd_quantities(ada: Shopper, quantity: str) -> None:
    """A quantity that is no positive number counts as one."""
    ada.post("/cart", product_id="forest-floor", quantity=quantity)
    assert "1 item<" in ada.get("/cart").text


# checkout


def test_checkout_explains_every_mistake(app: Flask, ada: Shopper) -> None:
    """Wrong fields are named, what was right stays filled in, nothing is stored."""
    ada.pick("forest-floor")
    page = ada.order(email="ada", city=" ")
    assert page.status_code == 422
    assert "please check 2 things" in page.text
    assert "Write the whole address, like name@example.com." in page.text
    assert "Tell us your town." in page.text
    assert page.text.count('aria-invalid="true"') == 2
    assert 'value="Ada Lovelace"' in page.text
    assert orders(app) == 0


@pytest.mark.parametrize("name", ["A" * 81, "Ada\0Lovelace"])
def test_checkout_refuses_what_fits_on_no_label(ada: Shopper, name: str) -> None:
    """Text that is too long or not printable is a mistake, not a crash."""
    ada.pick("forest-floor")
    assert "Use at most 80 ordinary characters." in ada.order(name=name).text


def test_checkout_escapes_what_was_typed(ada: Shopper) -> None:
    """Markup in a field stays text on every page."""
    ada.pick("forest-floor")
    page = ada.get(ada.order(name="<b>Ada</b>").location)
    assert "&lt;b&gt;Ada&lt;/b&gt;" in page.text
    assert "<b>Ada" not in page.text


def test_placed_order_is_confirmed_and_lowers_stock(app: Flask, ada: Shopper) -> None:
    """The command stores the order, and the catalogue's handler reacts to it."""
    ada.pick("elderflower-white", 2)
    response = ada.order()
    assert response.status_code == 303
    page = ada.get(response.location)
    for text in ("Thank you, Ada Lovelace", "Confirmed", "€32.80", "12 Hedge Lane"):
        assert text in page.text
    assert stock(app, "elderflower-white") == 1
    assert "Your cart is empty" in ada.get("/cart").text


def test_out_of_stock_undoes_the_whole_order(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """The failing handler takes the order and every other reservation along."""
    ada.pick("forest-floor")
    ada.pick("small-pot", 2)
    grace.pick("small-pot")
    grace.order()
    page = ada.order()
    assert page.status_code == 409
    assert "Only 1 of The Small Pot left. Nothing was taken" in page.text
    assert 'value="Ada Lovelace"' in page.text
    assert orders(app) == 1
    assert stock(app, "forest-floor") == 24
    assert stock(app, "small-pot") == 1
    assert "Only 1 left: please take fewer." in ada.get("/cart").text


def test_shopper_can_order_after_a_refusal(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """Once the cart fits the shelf again, the same checkout goes through."""
    ada.pick("small-pot", 2)
    grace.pick("small-pot")
    grace.order()
    ada.order()
    ada.post("/cart/small-pot", quantity=1)
    assert ada.order().status_code == 303
    assert stock(app, "small-pot") == 0


def test_changed_total_is_not_charged(app: Flask, ada: Shopper) -> None:
    """An order costs what its form said, or it is not placed."""
    ada.pick("forest-floor")
    page = ada.order(total=1)
    assert page.status_code == 409
    assert "A price has changed." in page.text
    assert orders(app) == 0


def test_double_submit_places_one_order(app: Flask, ada: Shopper) -> None:
    """The same form sent twice with the same cookies leads to the same order."""
    ada.pick("forest-floor", 2)
    form = ada.filled_form()
    with ada.client.session_transaction() as session:
        before = dict(session)
    first = ada.post("/checkout", **form)
    with ada.client.session_transaction() as session:
        session.update(before)
    second = ada.post("/checkout", **form)
    assert first.status_code == second.status_code == 303
    assert first.location == second.location
    assert orders(app) == 1
    assert stock(app, "forest-floor") == 22


def test_old_form_leads_to_its_order_and_spares_the_new_cart(
    app: Flask, ada: Shopper
) -> None:
    """Going back and sending again neither orders again nor empties the cart."""
    ada.pick("forest-floor")
    form = ada.filled_form()
    first = ada.post("/checkout", **form)
    ada.pick("nettle-mint")
    assert ada.post("/checkout", **form).location == first.location
    assert orders(app) == 1
    assert "Nettle &amp; Mint" in ada.get("/cart").text


# orders


def test_orders_are_listed_for_their_shopper(ada: Shopper, grace: Shopper) -> None:
    """The list shows this browser's orders and nobody else's."""
    assert "No orders yet" in ada.get("/orders").text
    ada.pick("forest-floor", 2)
    path = ada.order().location
    assert path in ada.get("/orders").text
    assert "2 × Forest Floor" in ada.get("/orders").text
    assert "No orders yet" in grace.get("/orders").text


def test_cancelled_order_gives_stock_back_once(app: Flask, ada: Shopper) -> None:
    """Cancelling publishes an event that refills the shelf; a second try does not."""
    ada.pick("forest-floor", 4)
    path = ada.order().location
    assert stock(app, "forest-floor") == 20
    ada.post(f"{path}/cancel")
    ada.post(f"{path}/cancel")
    page = ada.get(path)
    assert "This order is cancelled" in page.text
    assert "Cancel this order" not in page.text
    assert stock(app, "forest-floor") == 24


def test_order_is_nobody_elses_business(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """Another shopper can neither see nor cancel nor place the order again."""
    ada.pick("forest-floor")
    path = ada.order().location
    assert grace.get(path).status_code == 404
    assert grace.post(f"{path}/cancel").status_code == 404
    assert "Confirmed" in ada.get(path).text


# errors


@pytest.mark.parametrize("path", ["/nowhere", "/products/coffee", "/orders/0"])
def test_unknown_addresses_are_404(ada: Shopper, path: str) -> None:
    """A missing aggregate is a missing page, in the shop's own clothes."""
    page = ada.get(path)
    assert page.status_code == 404
    assert "Nothing grows here" in page.text


def test_unknown_products_are_404_in_the_cart(ada: Shopper) -> None:
    """What is not in the catalogue does not get into the cart."""
    assert ada.pick("coffee").status_code == 404
    assert ada.post("/cart/coffee", quantity=1).status_code == 404


@pytest.mark.parametrize("token", [None, "", "forged", "ü"])
def test_forged_form_is_refused(app: Flask, ada: Shopper, token: str | None) -> None:
    """A POST without this session's token does nothing."""
    ada.pick("forest-floor")
    form = ada.filled_form()
    if token is not None:
        form["csrf_token"] = token
    page = ada.client.post("/hedgerow/checkout", data=form)
    assert page.status_code == 400
    assert "This form has expired." in page.text
    assert orders(app) == 0


def test_first_request_cannot_be_a_form(app: Flask) -> None:
    """Without a session there is no token yet, so an empty one does not fit."""
    page = app.test_client().post("/hedgerow/cart", data={"product_id": "forest-floor"})
    assert page.status_code == 400
    assert "This form has expired." in page.text
