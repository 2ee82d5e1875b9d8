"""An application without any ``ECOTONE_…`` configuration."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import query_bus

db = SQLAlchemy()
ecotone = Ecotone()


def create_app() -> Flask:
    """Return the application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///:memory:"
    db.init_app(app)
    ecotone.init_app(app)

    @app.get("/handled")
    def handled() -> str:
        return str(query_bus.send_with_routing("app.wasHandled"))

    return app
