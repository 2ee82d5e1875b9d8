"""The shops, and the database that each of them has."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shop:
    """A tenant. Its key begins its addresses and names its database in the binds."""

    key: str
    name: str
    goods: str
    trade: str
    emblem: str
    greeting: str
    welcome: str


SHOPS = {
    shop.key: shop
    for shop in (
        Shop(
            "hedgerow",
            "Hedgerow",
            "teas",
            "Small-batch teas",
            "fern",
            "From where the wood meets the meadow",
            "Leaves, flowers and berries from both sides of the hedge, blended by the"
            " tinful and posted in paper.",
        ),
        Shop(
            "riverside",
            "Riverside",
            "coffees",
            "Slow-roasted coffees",
            "lily",
            "Roasted where the river slows down",
            "Beans that came up the river by boat, turned over beech wood in the old"
            " mill and packed while they are warm.",
        ),
    )
}


def databases(folder: Path = Path()) -> dict[str, str]:
    """Return the database of each shop: ``HEDGEROW_DATABASE_URL`` or a SQLite file."""
    return {
        key: os.environ.get(f"{key.upper()}_DATABASE_URL")
        or f"sqlite:///{folder / key}.db"
        for key in SHOPS
    }
