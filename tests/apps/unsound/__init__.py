"""An application that can be imported and not compiled: two handlers, one command."""

from flask import Flask

from flask_ecotone import command_handler
from flask_ecotone import Ecotone


@command_handler("order.place")
def place() -> None:
    """Place an order."""


@command_handler("order.place", endpoint_id="other")
def place_again() -> None:
    """Place an order, too."""


def create_app() -> Flask:
    """Return the application."""
    app = Flask(__name__)
    Ecotone(app)
    return app
