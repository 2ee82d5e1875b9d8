"""An application with a module that can't be imported."""

from flask import Flask

from flask_ecotone import Ecotone


def create_app() -> Flask:
    """Return the application."""
    app = Flask(__name__)
    Ecotone(app)

    @app.get("/hello")
    def hello() -> str:
        return "hello"

    return app
