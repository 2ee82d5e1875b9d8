"""An application with a module that uses a bus while it is imported."""

from flask import Flask

from flask_ecotone import Ecotone


def create_app() -> Flask:
    """Return the application."""
    app = Flask(__name__)
    Ecotone(app)
    return app
