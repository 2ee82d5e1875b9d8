"""Shoppers in a hurry: the same moment, on every database."""

from __future__ import annotations

import typing as t
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from .shopper import open_shops
from .shopper import orders
from .shopper import Shopper
from .shopper import stock


@pytest.fixture
def app(database_url: str, second_database_url: str) -> Flask:
    """Both shops on SQLite, PostgreSQL and MariaDB in turn."""
    return open_shops(database_url, second_database_url)


def at_once(*calls: t.Callable[[], TestResponse]) -> list[TestResponse]:
    """Make all calls at the same time and return what each got."""
    barrier = Barrier(len(calls))

    def call(make: t.Callable[[], TestResponse]) -> TestResponse:
        barrier.wait(10)
        return make()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(call, calls))


def test_order_and_cancel(app: Flask, ada: Shopper) -> None:
    """The whole way works on every database."""
    ada.pick("forest-floor", 2)
    ada.pick("small-pot")
    path = ada.order().location
    assert "Confirmed" in ada.get(path).text
    assert stock(app, "forest-floor") == 22
    ada.post(f"{path}/cancel")
    assert stock(app, "forest-floor") == 24


def test_two_shoppers_race_for_the_last_pots(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """One of them gets both, the other is told; the stock never goes below 0."""
    forms = []
    for shopper in (ada, grace):
        shopper.pick("small-pot", 2)
        forms.append(shopper.filled_form())
    answers = at_once(
        lambda: ada.post("/checkout", **forms[0]),
        lambda: grace.post("/checkout", **forms[1]),
    )
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert orders(app) == 1
    assert stock(app, "small-pot") == 0


def test_impatient_shopper_presses_twice(app: Flask, ada: Shopper) -> None:
    """Two requests of one form, at the same moment, are one order."""
    ada.pick("forest-floor", 2)
    form = ada.filled_form()
    twin = Shopper(app)
    with ada.client.session_transaction() as session:
        cookies = dict(session)
    with twin.client.session_transaction() as session:
        session.update(cookies)
    answers = at_once(
        lambda: ada.post("/checkout", **form),
        lambda: twin.post("/checkout", **form),
    )
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].location == answers[1].location
    assert orders(app) == 1
    assert stock(app, "forest-floor") == 22


def test_rush_adds_up(app: Flask) -> None:
    """Whoever is told that an order was placed has one, and stock follows."""
    crowd = [Shopper(app) for _ in range(8)]
    forms = []
    for shopper in crowd:
        shopper.pick("nettle-mint")
        forms.append(shopper.filled_form())
    answers = at_once(
        *(
            lambda shopper=shopper, form=form: shopper.post("/checkout", **form)
            for shopper, form in zip(crowd, forms, strict=True)
        )
    )
    placed = [answer for answer in answers if answer.status_code == 303]
    assert {answer.status_code for answer in answers} <= {303, 409}
    assert orders(app) == len(placed) > 0
    assert stock(app, "nettle-mint") == 5 - len(placed)


def test_rush_in_both_shops_adds_up_in_each(app: Flask) -> None:
    """The same product, sold in both shops at the same moment, is two products."""
    crowd = [Shopper(app, shop) for shop in ("hedgerow", "riverside") * 4]
    forms = []
    for shopper in crowd:
        shopper.pick("small-pot")
        forms.append(shopper.filled_form())
    answers = at_once(
        *(
            lambda shopper=shopper, form=form: shopper.post("/checkout", **form)
            for shopper, form in zip(crowd, forms, strict=True)
        )
    )
    for shop, before in ("hedgerow", 2), ("riverside", 6):
        placed = [
            answer
            for shopper, answer in zip(crowd, answers, strict=True)
            if shopper.shop == shop and answer.status_code == 303
        ]
        assert all(answer.location.startswith(f"/{shop}/") for answer in placed)
        assert orders(app, shop) == len(placed) > 0
        assert stock(app, "small-pot", shop) == before - len(placed)
