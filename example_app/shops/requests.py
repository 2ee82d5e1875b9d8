"""From the address of a page to the tenant of every message that it sends."""

from typing import Any

from flask import current_app
from flask import Flask
from flask import g
from flask import request

from ..extensions import ecotone
from .shop import SHOPS

#: What the addresses of a shop begin with.
PREFIX = f"/<any({', '.join(SHOPS)}):shop>"


def enter(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Note which shop the address is in. The views need not take it."""
    g.shop = SHOPS.get(request.path.split("/")[1])
    if values:
        values.pop("shop", None)


def stay(endpoint: str, values: dict[str, Any]) -> None:
    """Let ``url_for`` stay in the shop."""
    if g.get("shop") and current_app.url_map.is_endpoint_expecting(endpoint, "shop"):
        values.setdefault("shop", g.shop.key)


@ecotone.metadata_provider
def tenant() -> dict[str, object]:
    """Tell every message of a request which shop it is for."""
    return {"tenant": g.shop.key} if g.shop else {}


def init_app(app: Flask) -> None:
    """Follow the shop in every address of *app*, and show it to its templates."""
    app.url_value_preprocessor(enter)
    app.url_defaults(stay)
    app.context_processor(lambda: {"shop": g.get("shop"), "shops": SHOPS.values()})
