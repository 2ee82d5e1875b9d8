"""Mails are written in the background: by a worker that runs in the test."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_ecotone.channels.protocols import ChannelStatus
from flask_ecotone.consuming import Limits

from .shopper import open_shops
from .shopper import Shopper
from .shopper import stored


def work(app: Flask, at_most: int = 0) -> tuple[int, int]:
    """Handle what is due; return how much of it went well, and how much failed.

    With a limit nothing is handled twice, however slow the machine is.
    """
    messaging = app.extensions["ecotone"].messaging
    limits = Limits(handled=at_most, finishes_when_empty=True)
    outcome = messaging.worker(["notifications"], limits=limits).run()
    return outcome.handled, outcome.failed


def status(app: Flask, shop: str = "hedgerow") -> ChannelStatus:
    """Return what lies in the channel of a shop."""
    sources = app.extensions["ecotone"].messaging.channels.get("notifications")
    found = {source.tenant: source.status() for source in sources.sources()}
    return t.cast(ChannelStatus, found[shop])


def buy(shopper: Shopper, product_id: str = "forest-floor") -> str:
    """Order something and return the address of the order."""
    shopper.pick(product_id)
    response = shopper.order()
    assert response.status_code == 303, response.text
    return str(response.location)


def waits(app: Flask, shop: str = "hedgerow") -> tuple[int, int]:
    """Return how many messages are ready, and how many delayed."""
    now = status(app, shop)
    return now.ready, now.delayed


def mails(app: Flask, shop: str = "hedgerow") -> int:
    """Return how many mails have arrived in a shop."""
    return len(stored(app, shop)["mails"])


@pytest.fixture
def parked(app: Flask, ada: Shopper) -> Flask:
    """Hedgerow with a confirmation among the dead letters, and a broken mailbox."""
    ada.post("/operations/break")
    buy(ada)
    # The review request becomes due, fails and is parked as well, a round later.
    for _ in range(4):
        work(app)
        ada.post("/operations/fast-forward")
    return app


# mails


def test_confirmation_comes_once_the_worker_was_there(app: Flask, ada: Shopper) -> None:
    """The order is stored with its messages; the mail is the worker's work."""
    address = buy(ada)
    assert "No mail yet" in ada.get("/inbox").text
    assert waits(app) == (1, 1)
    assert work(app) == (1, 0)
    page = ada.get("/inbox").text
    for text in ("Dear Ada Lovelace", "ada@example.com", "1 × Forest Floor", "€9.80"):
        assert text in page
    assert f'href="{address}"' in page
    assert waits(app) == (0, 1)


def test_refused_order_sends_nothing(app: Flask, ada: Shopper) -> None:
    """The messages are part of the transaction that is rolled back."""
    ada.pick("forest-floor")
    assert ada.order(total=1).status_code == 409
    assert waits(app) == (0, 0)


def test_inbox_is_that_of_the_shopper_in_the_shop(
    app: Flask, ada: Shopper, grace: Shopper
) -> None:
    """Neither another browser nor the other shop sees the mail."""
    buy(ada)
    work(app)
    assert "Dear Ada" in ada.get("/inbox").text
    assert "No mail yet" in grace.get("/inbox").text
    assert "No mail yet" in ada.at("riverside").get("/inbox").text
    assert mails(app, "riverside") == 0


def test_worker_serves_both_shops(app: Flask, ada: Shopper) -> None:
    """One worker writes the mails of both, each in its own database."""
    buy(ada)
    buy(ada.at("riverside"), "silver-run")
    assert work(app) == (2, 0)
    assert (mails(app), mails(app, "riverside")) == (1, 1)


def test_mail_shows_what_was_typed_as_text(app: Flask, ada: Shopper) -> None:
    """A name with braces or tags is neither a placeholder nor markup."""
    ada.pick("forest-floor")
    ada.order(name="{total} <b>Ada</b>")
    work(app)
    assert "Dear {total} &lt;b&gt;Ada&lt;/b&gt;" in ada.get("/inbox").text


def test_review_request_comes_when_the_week_has_passed(
    app: Flask, ada: Shopper
) -> None:
    """The button makes it due, in this shop only."""
    buy(ada)
    buy(ada.at("riverside"), "silver-run")
    work(app)
    assert "in 7 days" in ada.client.get("/operations").text
    response = ada.post("/operations/fast-forward")
    assert (response.status_code, response.location) == (303, "/operations")
    assert "1 of the delayed messages became due" in ada.client.get("/operations").text
    assert work(app) == (1, 0)
    assert "How do you like it?" in ada.get("/inbox").text
    assert waits(app) == (0, 0)
    assert waits(app, "riverside") == (0, 1)


def test_nobody_is_asked_about_a_cancelled_order(app: Flask, ada: Shopper) -> None:
    """The message is handled, but no mail is written."""
    ada.post(f"{buy(ada)}/cancel")
    work(app)
    ada.post("/operations/fast-forward")
    assert work(app) == (1, 0)
    assert "How do you like it?" not in ada.get("/inbox").text


def test_claimed_message_is_not_hurried(app: Flask, ada: Shopper) -> None:
    """What a worker holds keeps its lease: nobody else may take it."""
    buy(ada)
    channel = app.extensions["ecotone"].messaging.channels.get("notifications")
    source = next(s for s in channel.sources() if s.tenant == "hedgerow")
    assert len(source.claim(1)) == 1
    ada.post("/operations/fast-forward")
    assert status(app).in_flight == 1
    source.recover()
    assert waits(app) == (1, 0)
    assert status(app).in_flight == 1


# operations


def test_page_shows_depths_of_each_shop(app: Flask, ada: Shopper) -> None:
    """Ready, in flight, delayed and the age of the oldest, shop by shop."""
    buy(ada)
    hedgerow, riverside = ada.client.get("/operations").text.split('id="riverside"')
    for name, count in (("Ready", 1), ("In flight", 0), ("Delayed", 1)):
        assert f"<dt>{name}</dt><dd>{count}</dd>" in hedgerow
        assert f"<dt>{name}</dt><dd>0</dd>" in riverside
    assert "<dt>Oldest</dt><dd>0 seconds</dd>" in hedgerow
    assert "<dt>Oldest</dt><dd>–</dd>" in riverside
    assert "mailing.ask_for_review" in hedgerow


def test_page_knows_whether_a_worker_is_alive(app: Flask, tmp_path: Path) -> None:
    """The file that the worker touches says so; without one, how to start it."""
    sign = tmp_path / "worker.alive"
    app.config["WORKER_HEALTH_FILE"] = str(sign)
    client = app.test_client()
    assert "No worker in sight.</strong>" in client.get("/operations").text
    sign.touch()
    assert "A worker is alive." in client.get("/operations").text
    os.utime(sign, (0, 0))
    page = client.get("/operations").text
    assert "No worker in sight for" in page
    assert "ecotone run notifications" in page


def test_page_reloads_itself_only_when_watched(ada: Shopper) -> None:
    """Watching needs no JavaScript, and the buttons don't end it."""
    assert "http-equiv" not in ada.client.get("/operations").text
    assert 'http-equiv="refresh"' in ada.client.get("/operations?watch=1").text
    response = ada.post("/operations/break?watch=1")
    assert response.location == "/operations?watch=1"


@pytest.mark.parametrize(
    "path", ["fast-forward", "break", "mend", "dead-letters/1/replay"]
)
def test_buttons_want_the_token_of_the_form(ada: Shopper, path: str) -> None:
    """A form of somewhere else changes nothing."""
    assert ada.client.post(f"/hedgerow/operations/{path}").status_code == 400
    assert ada.get(f"/operations/{path}").status_code in (404, 405)


# the failure drill


def test_failed_mail_is_tried_twice_more_and_parked(app: Flask, ada: Shopper) -> None:
    """Each failure shows on the page; after the third it is a dead letter."""
    ada.post("/operations/break")
    buy(ada)
    assert "Broken" in ada.client.get("/operations").text
    assert work(app, 1) == (0, 1)
    assert "Retry 1" in ada.client.get("/operations").text
    ada.post("/operations/fast-forward")
    assert work(app, 2) == (0, 2)
    assert "Retry 2" in ada.client.get("/operations").text
    ada.post("/operations/fast-forward")
    assert work(app, 2) == (0, 2)
    page = ada.client.get("/operations").text
    assert "mailing.confirm_order" in page
    assert "MailboxIsBroken: The mailbox is broken." in page
    assert "3 attempts" in page
    assert "Traceback (most recent call last)" in page
    assert mails(app) == 0


def test_mended_mailbox_gets_what_is_replayed(parked: Flask, ada: Shopper) -> None:
    """Replay both dead letters, and both mails arrive, once."""
    letters = dead(parked)
    assert len(letters) == 2
    ada.post("/operations/mend")
    assert "Works" in ada.client.get("/operations").text
    for letter in letters:
        ada.post(f"/operations/dead-letters/{letter}/replay")
    assert dead(parked) == []
    assert work(parked) == (2, 0)
    page = ada.get("/inbox").text
    assert page.count("Dear Ada") == 2
    ada.post(f"/operations/dead-letters/{letters[0]}/replay")
    assert "no longer here" in ada.client.get("/operations").text
    assert work(parked) == (0, 0)


def test_replay_into_a_broken_mailbox_is_parked_again(
    parked: Flask, ada: Shopper
) -> None:
    """It fails as before, and the page says that it was replayed."""
    first, *others = dead(parked)
    ada.post(f"/operations/dead-letters/{first}/replay")
    for _ in range(3):
        work(parked)
        ada.post("/operations/fast-forward")
    assert len(dead(parked)) == 1 + len(others)
    assert "replayed 1 time " in ada.client.get("/operations").text


def test_dead_letter_is_deleted_once(parked: Flask, ada: Shopper) -> None:
    """The second click finds nothing, and says so."""
    letter = dead(parked)[0]
    ada.post(f"/operations/dead-letters/{letter}/delete")
    assert letter not in dead(parked)
    assert "the message is deleted" in ada.client.get("/operations").text
    ada.post(f"/operations/dead-letters/{letter}/delete")
    assert "no longer here" in ada.client.get("/operations").text


def test_dead_letters_belong_to_their_shop(parked: Flask, ada: Shopper) -> None:
    """The other shop can neither replay nor delete them, and its mailbox works."""
    letters = dead(parked)
    river = ada.at("riverside")
    river.post(f"/operations/dead-letters/{letters[0]}/replay")
    river.post(f"/operations/dead-letters/{letters[0]}/delete")
    assert dead(parked) == letters
    buy(river, "silver-run")
    assert work(parked) == (1, 0)
    assert "Dear Ada" in river.get("/inbox").text


def test_drill_works_on_other_databases(postgres_url: str, mariadb_url: str) -> None:
    """Break, fail, park, mend, replay on PostgreSQL and on MariaDB."""
    app = open_shops(postgres_url, mariadb_url)
    for shop, product in (("hedgerow", "forest-floor"), ("riverside", "silver-run")):
        ada = Shopper(app, shop)
        ada.post("/operations/break")
        ada.post("/operations/break")
        buy(ada, product)
        for _ in range(3):
            work(app)
            ada.post("/operations/fast-forward")
        assert "MailboxIsBroken" in ada.client.get("/operations").text
        ada.post("/operations/mend")
        for letter in dead(app, shop):
            ada.post(f"/operations/dead-letters/{letter}/replay")
        work(app)
        assert "Dear Ada" in ada.get("/inbox").text


def dead(app: Flask, shop: str = "hedgerow") -> list[int]:
    """Return the ids of the dead letters of a shop."""
    letters = app.extensions["ecotone"].messaging.dead_letters
    return sorted(letter.id for letter in letters.list(tenant=shop))
