"""What a worker does with messages."""

from __future__ import annotations

import json
import signal
import threading

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import InMemoryChannel
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.errors import MessagingError
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import SUSPECT

from .shop import OrderWasPlaced
from .shop import Ring
from .shop import Shop


@pytest.fixture(params=["message", "batch"])
def shop(database_url: str, request: pytest.FixtureRequest) -> Shop:
    """A shop whose worker handles messages one by one, or several together."""
    return Shop(database_url, lease=1, transaction=request.param)


def publish(shop: Shop, *numbers: int) -> None:
    with shop.app.app_context():
        for number in numbers:
            event_bus.publish(OrderWasPlaced(number), {"user": "ann"})


def change(shop: Shop, **values: object) -> None:
    with shop.app.app_context(), shop.db.engine.begin() as connection:
        connection.execute(sa.update(messages).values(**values))


def test_handlers_get_the_message_as_it_was_sent(shop: Shop) -> None:
    """Payload, id, correlation and the application's headers are the same."""
    publish(shop, 7)
    outcome = shop.work()
    assert (outcome.handled, outcome.failed) == (2, 0)
    (_, first), (_, second) = shop.seen
    assert first.payload == OrderWasPlaced(7)
    assert first.headers["user"] == "ann"
    assert first.headers["polledChannelName"] == "orders"
    assert first.headers.message_id == second.headers.message_id
    assert shop.effects() == [("mail", 7), ("pack", 7)]
    assert shop.source().status().ready == 0


def test_a_failing_handler_is_repeated_without_its_siblings(shop: Shop) -> None:
    """The retries of one endpoint end among the dead letters; the other ran once."""
    publish(shop, 1)
    shop.errors["pack"] = ValueError("no box")
    assert shop.work().failed == 3
    assert shop.effects() == [("mail", 1)]
    (parked,) = shop.messaging.dead_letters.list()
    assert (parked.endpoint_id, parked.channel, parked.attempts) == (
        "pack",
        "orders",
        3,
    )
    assert parked.error_class == "ValueError"
    assert "no box" in parked.traceback
    assert json.loads(parked.body) == {"number": 1}
    assert parked.first_failed_at <= parked.last_failed_at


def test_a_dead_letter_is_replayed(shop: Shop) -> None:
    """It goes back to its channel, and is handled as if nothing had happened."""
    publish(shop, 1)
    shop.errors["pack"] = ValueError("no box")
    shop.work()
    letters = shop.messaging.dead_letters
    assert letters.count() == 1
    assert letters.replay(letters.list()[0].id) == 1
    assert letters.count() == 0
    assert shop.effects() == [("mail", 1)]
    shop.errors.clear()
    shop.work()
    assert shop.effects() == [("mail", 1), ("pack", 1)]


def test_dead_letters_that_several_replay_at_once_come_back_once(shop: Shop) -> None:
    """Who comes late finds nothing."""
    publish(shop, *range(20))
    shop.errors["pack"] = ValueError("no box")
    shop.work()
    letters = shop.messaging.dead_letters
    together = threading.Barrier(4)
    replayed: list[int] = []

    def replay() -> None:
        with shop.app.app_context():
            together.wait()
            replayed.append(letters.replay_all())

    threads = [threading.Thread(target=replay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replayed) == 4
    assert sum(replayed) == 20
    assert shop.source().status().ready == 20


def test_a_replayed_message_that_fails_again_is_one_dead_letter(shop: Shop) -> None:
    """Replaying all ends, and what failed before is counted."""
    publish(shop, 1, 2)
    shop.errors["pack"] = ValueError("no box")
    shop.work()
    letters = shop.messaging.dead_letters
    assert letters.replay_all(error_class="ValueError") == 2
    shop.work()
    assert letters.count() == 2
    assert {letter.replays for letter in letters.list()} == {1}
    assert letters.stats() == [("orders", "pack", "ValueError", 2)]
    assert letters.delete_all() == 2


def test_replaying_what_is_not_there_says_so_and_replays_nothing(shop: Shop) -> None:
    """All or none."""
    publish(shop, 1)
    shop.errors["pack"] = ValueError("no box")
    shop.work()
    letters = shop.messaging.dead_letters
    with pytest.raises(MessagingError, match="no dead letter 999"):
        letters.replay([letters.list()[0].id, 999])
    assert letters.count() == 1


def test_a_message_is_not_handled_twice(shop: Shop) -> None:
    """A copy with the same id is skipped, in the same transaction."""
    envelope = Envelope(
        "mail",
        "same",
        b'{"number": 5}',
        json.dumps(
            {"id": "same", "__TypeId__": f"{OrderWasPlaced.__module__}:OrderWasPlaced"}
        ),
    )
    with shop.app.app_context():
        shop.messaging.channels.get("orders").send([envelope, envelope])
        shop.db.session.commit()
    assert shop.work().handled == 2
    assert shop.effects() == [("mail", 5)]
    with shop.app.app_context(), shop.db.engine.connect() as connection:
        rows = connection.scalars(sa.select(handled.c.key)).all()
    assert list(rows) == ["same"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"body": b"\xff\xfe"}, "ConversionError"),
        ({"headers": "{"}, "ConversionError"),
        ({"headers": '{"__TypeId__": "nowhere:Nothing", "id": "x"}'}, "no such class"),
        ({"headers": '{"__TypeId__": "os:system", "id": "x"}'}, "no class"),
    ],
)
def test_what_cannot_be_read_is_parked_at_once(
    shop: Shop, values: dict[str, object], said: str
) -> None:
    """The neighbours are handled, and the bytes are kept."""
    publish(shop, 1)
    change(shop, **values)
    publish(shop, 2)
    outcome = shop.work()
    assert (outcome.handled, outcome.failed) == (2, 2)
    assert shop.effects() == [("mail", 2), ("pack", 2)]
    letters = shop.messaging.dead_letters.list()
    assert len(letters) == 2
    assert said in f"{letters[0].error_class} {letters[0].error_message}"
    if "body" in values:
        assert letters[0].body == values["body"]


def test_a_message_for_an_unknown_endpoint_waits_for_a_newer_release(
    shop: Shop,
) -> None:
    """It is tried again later, and the neighbours pass."""
    publish(shop, 1)
    change(shop, endpoint_id="gone")
    publish(shop, 2)
    outcome = shop.work()
    assert (outcome.handled, outcome.failed) == (2, 2)
    assert shop.source().status().delayed == 2


def test_a_message_that_takes_workers_along_is_parked(shop: Shop) -> None:
    """Its claims are counted, also when nobody lives to say so."""
    publish(shop, 1)
    change(shop, attempts=4, state=SUSPECT)
    publish(shop, 2)
    shop.work()
    assert shop.effects() == [("mail", 2), ("pack", 2)]
    (first, _) = shop.messaging.dead_letters.list()
    assert "5 workers disappeared" in first.error_message


def test_handlers_without_transaction_are_handled_and_removed(shop: Shop) -> None:
    """They are removed together, after they ran."""
    with shop.app.app_context():
        for text in ("ding", "dong"):
            command_bus.send_with_routing("ring", Ring(text))
    assert shop.work("bell").handled == 2
    assert [text for text, _ in shop.seen] == ["ding", "dong"]
    assert shop.source("bell").status() == shop.source("orders").status()


def test_two_workers_share_the_messages(shop: Shop) -> None:
    """Each message is handled by one of them."""
    publish(shop, *range(40))
    threads = [threading.Thread(target=shop.work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shop.work()
    numbers = list(range(40))
    assert shop.effects() == [
        *(("mail", n) for n in numbers),
        *(("pack", n) for n in numbers),
    ]


@pytest.mark.parametrize(
    ("limits", "handled", "reason"),
    [
        ({"handled": 3}, 3, "handled message limit"),
        ({"memory": 1}, 0, "memory limit"),
        ({"execution_time": 0.000001}, 0, "execution time limit"),
    ],
)
def test_limits_count_with_each_other(
    shop: Shop, limits: dict[str, float], handled: int, reason: str
) -> None:
    """The first that is reached stops the worker, also if it would stop when idle."""
    publish(shop, 1, 2)
    outcome = shop.work(**limits)
    assert (outcome.handled, outcome.reason) == (handled, reason)
    assert shop.source().status().ready == 4 - handled


def test_a_worker_that_stops_on_failure_leaves_the_rest(shop: Shop) -> None:
    """What it had claimed is free for others."""
    publish(shop, 1, 2)
    shop.errors["mail"] = ValueError("no paper")
    outcome = shop.work(stops_on_failure=True)
    assert (outcome.handled, outcome.failed) == (0, 1)
    assert shop.source().status().ready == 3
    assert shop.source().status().in_flight == 0


def test_what_handlers_start_gets_its_signals() -> None:
    """No thread that handles messages keeps signals from the processes it starts."""
    app, found = Flask("press"), []
    met = threading.Barrier(2, timeout=30)

    @asynchronous("rings")
    @event_handler(endpoint_id="look")
    def look(event: Ring) -> None:
        met.wait()  # so that each thread handles one
        found.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))

    ecotone = Ecotone(packages=[], channels=[InMemoryChannel("rings")])
    ecotone.register(look)
    ecotone.init_app(app)
    with app.app_context():
        for text in "ab":
            event_bus.publish(Ring(text))
    arguments = ["ecotone", "run", "rings", "--threads", "2"]
    # Which also lets a thread claim one message at a time.
    limits = ["--finish-when-no-messages", "--stop-on-failure"]
    result = app.test_cli_runner().invoke(args=[*arguments, *limits])
    assert (result.exit_code, found) == (0, [set(), set()])
