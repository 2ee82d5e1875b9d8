"""What every page shares: the shopper, template filters and error pages."""

from datetime import datetime
from uuid import uuid4

from flask import Flask
from flask import render_template
from flask import session
from werkzeug.exceptions import Conflict
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import NotFound

from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConcurrencyError

from .extensions import ecotone


@ecotone.metadata_provider
def shopper() -> dict[str, object]:
    """Tell every message of a request who is shopping."""
    return {"shopper": session.setdefault("shopper", uuid4().hex)}


def money(cents: int) -> str:
    """Format minor units: 123450 is €1,234.50."""
    return f"€{cents // 100:,}.{cents % 100:02}"


def moment(value: datetime) -> str:
    """Format a point in time: 5 March 2026, 14:07 UTC."""
    return f"{value.day} {value:%B %Y, %H:%M} UTC"


def show_error(error: HTTPException) -> tuple[str, int]:
    """Render any HTTP error in the shop's own clothes."""
    code = error.code or 500
    return render_template("error.html", error=error, code=code), code


def show_not_found(error: Exception) -> tuple[str, int]:
    """A message addressed an aggregate that is not there: nor is the page."""
    return show_error(NotFound())


def show_conflict(error: Exception) -> tuple[str, int]:
    """Too many wanted the same thing at once, even after some retries."""
    return show_error(Conflict("Somebody else was faster. Please try again."))


def init_app(app: Flask) -> None:
    """Register filters and error pages on *app*."""
    app.add_template_filter(money)
    app.add_template_filter(moment)
    app.register_error_handler(HTTPException, show_error)
    app.register_error_handler(AggregateNotFoundError, show_not_found)
    app.register_error_handler(ConcurrencyError, show_conflict)
