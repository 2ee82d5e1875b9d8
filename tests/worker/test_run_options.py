"""What ``flask ecotone run`` is told."""

from __future__ import annotations

import pytest

from flask_ecotone import command_bus
from flask_ecotone import event_bus
from flask_ecotone.consuming import limits
from flask_ecotone.consuming.limits import resident_megabytes

from .shop import OrderWasPlaced
from .shop import Ring
from .shop import Shop


@pytest.fixture
def shop(sqlite_url: str) -> Shop:
    """A shop with messages in both of its channels, two and one."""
    shop = Shop(sqlite_url)
    with shop.app.app_context():
        event_bus.publish(OrderWasPlaced(1))
        command_bus.send_with_routing("ring", Ring("ding"))
    return shop


def run(shop: Shop, *options: str, code: int = 0) -> str:
    """Run a worker as at the terminal, and return what it said."""
    result = shop.app.test_cli_runner().invoke(args=["ecotone", "run", *options])
    assert result.exit_code == code, result.output
    return str(result.output)


def test_a_worker_takes_from_the_channels_that_are_named(shop: Shop) -> None:
    """Each of them once, or from all."""
    said = run(shop, "orders", "orders", "--finish-when-no-messages")
    assert said.startswith("Handling messages of orders.\n")
    assert "2 messages handled, 0 failed" in said
    said = run(shop, "--all", "--finish-when-no-messages")
    assert said.startswith("Handling messages of orders, bell.\n")
    assert "1 messages handled, 0 failed" in said


@pytest.mark.parametrize("options", [[], ["orders", "--all"], ["--all", "--scheduled"]])
def test_who_names_nothing_is_told_what_there_is(
    shop: Shop, options: list[str]
) -> None:
    """And so is who names something besides all."""
    said = run(shop, *options, code=2)
    assert "Name channels, or say --all. There are: orders, bell." in said


@pytest.mark.parametrize(
    "option",
    [
        "--handled-message-limit=-1",
        "--memory-limit=much",
        "--threads=0",
        "--processes=0",
        "--poll-interval=0",
        "--stopOnFailure=perhaps",
        "--cron=daily",
        "--health-file=not/there/health",
        "--health-file=.",
    ],
)
def test_an_option_that_makes_no_sense_is_wrong_usage(shop: Shop, option: str) -> None:
    """Nothing is handled."""
    assert "Error: Invalid value" in run(shop, "orders", option, code=2)
    assert shop.seen == []


def test_a_worker_that_takes_too_much_memory_stops(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is an option, or that of the application, or of the environment."""
    stopped = "Stopped (memory limit): 0 messages handled"
    assert stopped in run(shop, "orders", "--memory-limit", "1")
    monkeypatch.setenv("ECOTONE_DEFAULT_MEMORY_LIMIT", "1")
    assert stopped in run(shop, "orders")
    shop.app.config["ECOTONE_DEFAULT_MEMORY_LIMIT"] = 100_000
    assert "1 messages handled" in run(shop, "orders", "--handled-message-limit", "1")
    shop.app.config["ECOTONE_DEFAULT_MEMORY_LIMIT"] = 1
    said = run(shop, "orders", "--memory-limit", "0", "--finish-when-no-messages")
    assert "1 messages handled" in said
    shop.app.config["ECOTONE_DEFAULT_MEMORY_LIMIT"] = "much"
    assert "is 'much'. It is a number, 0 or more." in run(shop, "orders", code=1)


def test_where_linux_does_not_say_it_the_most_memory_counts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other systems tell the most that a process ever had."""
    monkeypatch.setattr(limits, "_STATM", "/not/there")
    options = ["orders", "--finish-when-no-messages", "--memory-limit"]
    assert "Stopped (memory limit)" in run(shop, *options, "1")
    assert "2 messages handled" in run(shop, *options, "100000")
    with_kilobytes = resident_megabytes()
    monkeypatch.setattr("sys.platform", "darwin")
    assert with_kilobytes is not None
    # There it is told in bytes.
    assert resident_megabytes() == pytest.approx(with_kilobytes / 1024, rel=0.1)


def test_a_memory_limit_that_cannot_be_measured_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is said; without one the worker works."""
    monkeypatch.setattr(limits, "_STATM", "/not/there")
    monkeypatch.setattr(limits, "resource", None)
    said = run(shop, "orders", "--memory-limit", "512", code=1)
    assert "--memory-limit is 512, and the memory of a process can't be" in said
    shop.app.config["ECOTONE_DEFAULT_MEMORY_LIMIT"] = 512
    said = run(shop, "orders", code=1)
    assert "ECOTONE_DEFAULT_MEMORY_LIMIT is 512, and the memory" in said
    options = ["--memory-limit", "0", "--handled-message-limit", "1"]
    assert "1 messages handled" in run(shop, "orders", *options)
    del shop.app.config["ECOTONE_DEFAULT_MEMORY_LIMIT"]
    assert "1 messages handled" in run(shop, "orders", "--finish-when-no-messages")


def test_a_worker_that_stops_on_failure_fails(shop: Shop) -> None:
    """Its exit code says so, in each spelling of the option."""
    shop.errors["mail"] = ValueError("no paper")
    said = run(shop, "orders", "--stopOnFailure=true", code=1)
    assert "Stopped (a message failed): 0 messages handled, 1 failed." in said
    said = run(shop, "orders", "--stopOnFailure=false", "--executionTimeLimit=1")
    assert "Stopped (execution time limit)" in said
