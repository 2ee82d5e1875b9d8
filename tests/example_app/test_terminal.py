"""What the shopkeeper does at the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from flask import Flask

from .shopper import Shopper
from .shopper import stock
from .shopper import stored

ROOT = Path(__file__).parents[2]
WITHOUT_TENANT = (
    "Error: Lack of context about tenant in Message Headers. Please add `tenant` header"
    " metadata to your message.\n"
)


def test_stock_is_filled_up_in_one_shop(app: Flask) -> None:
    """Low products get what is missing, others keep what they have."""
    before = stored(app, "hedgerow")
    result = app.test_cli_runner().invoke(
        args=["stock", "fill", "12", "--header", "tenant:riverside"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "4/4",
        "Product       | Was | Is",
        "Silver Run    | 4   | 12",
        "Still Pool    | 11  | 12",
        "The Small Pot | 6   | 12",
        "First Boat    | 0   | 12",
        "No shelf has fewer than 12.",
    ]
    assert stock(app, "first-boat", "riverside") == 12
    assert stock(app, "millrace", "riverside") == 26
    assert stored(app, "hedgerow") == before


def test_filling_twice_changes_nothing(app: Flask) -> None:
    """The second time there is nothing to do, and it says that all is well."""
    runner = app.test_cli_runner()
    arguments = ["stock", "fill", "--header=tenant:hedgerow"]
    assert runner.invoke(args=arguments).output.startswith("4/4\n")
    before = stored(app, "hedgerow")
    again = runner.invoke(args=arguments)
    assert again.output == "No shelf has fewer than 10.\n"
    assert stored(app, "hedgerow") == before


def test_filled_shelf_can_be_bought_from(app: Flask, ada: Shopper) -> None:
    """What was sold out is for sale again."""
    assert "Add to cart" not in ada.get("/products/bramble").text
    app.test_cli_runner().invoke(args=["stock", "fill", "--header=tenant:hedgerow"])
    ada.pick("bramble", 10)
    assert "Confirmed" in ada.get(ada.order().location).text
    assert stock(app, "bramble") == 0


def test_filling_without_a_shop_is_refused(app: Flask) -> None:
    """Without the header the command says what is missing and changes no shop."""
    before = stored(app, "hedgerow"), stored(app, "riverside")
    result = app.test_cli_runner().invoke(args=["stock", "fill"])
    assert (result.exit_code, result.output) == (1, WITHOUT_TENANT)
    assert (stored(app, "hedgerow"), stored(app, "riverside")) == before


def test_filling_with_words_is_wrong_usage(app: Flask) -> None:
    """The signature is checked before anything happens."""
    result = app.test_cli_runner().invoke(
        args=["stock", "fill", "many", "--header=tenant:hedgerow"]
    )
    assert result.exit_code == 2
    assert "'many' is not a valid integer" in result.output


def test_shops_are_opened_at_the_terminal(tmp_path: Path) -> None:
    """The commands of the README, from two empty databases to a full shelf."""
    environment = {
        **os.environ,
        "HEDGEROW_DATABASE_URL": f"sqlite:///{tmp_path / 'one.sqlite'}",
        "RIVERSIDE_DATABASE_URL": f"sqlite:///{tmp_path / 'two.sqlite'}",
    }

    def flask(*arguments: str) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "example_app", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return result.returncode, result.stdout + result.stderr

    assert flask("ecotone", "database", "setup", "--all-tenants")[0] == 0
    opened = flask("shop", "open", "--header", "tenant:hedgerow")
    assert opened == (0, "Hedgerow is open.\n")
    code, output = flask("stock", "fill", "20", "--header", "tenant:hedgerow")
    assert code == 0
    assert output.splitlines()[0] == "6/6"
    assert "Bramble              | 0   | 20" in output
    assert flask("stock", "fill", "20") == (1, WITHOUT_TENANT)
