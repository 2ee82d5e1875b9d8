"""Hedgerow, a small tea shop: the example application of Flask-Ecotone.

Two bounded contexts live side by side. ``catalogue`` knows products and their
stock, ``ordering`` knows carts and orders. They talk in messages only: look at
their ``messages.py`` first, then at the aggregates, then at the views.
"""

from collections.abc import Mapping
from typing import Any

from flask import Flask

from . import csrf
from . import pages
from .extensions import db
from .extensions import ecotone


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Build the shop. *config* overrides the defaults and ``FLASK_*`` variables."""
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="dev",
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI="sqlite:///shop.db",
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})

    db.init_app(app)
    ecotone.init_app(app)
    csrf.init_app(app)
    pages.init_app(app)

    # With the aggregates imported, create_all() and migrations know the tables.
    from .catalogue import product as product
    from .catalogue.views import bp as catalogue
    from .ordering import order as order
    from .ordering.views import bp as ordering

    app.register_blueprint(catalogue)
    app.register_blueprint(ordering)
    return app
