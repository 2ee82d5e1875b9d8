"""An application whose blueprint comes from another package."""

from crm.views import blueprint
from flask import Flask

from flask_ecotone import Ecotone


def create_app() -> Flask:
    """Return the application."""
    app = Flask(__name__)
    app.register_blueprint(blueprint)
    Ecotone(app)
    return app
