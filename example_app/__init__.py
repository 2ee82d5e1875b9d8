"""Two small shops in one application: the example of Flask-Ecotone.

Four bounded contexts live side by side. ``catalogue`` knows products and their
stock, ``ordering`` knows carts and orders, ``reporting`` reads what both stored, and
``mailing`` writes to shoppers in the background. They talk in messages only: look at
their ``messages.py`` first, then at the aggregates, then at the views. ``shops`` makes
two tenants of it all, and ``operations`` watches the queues of both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask import Flask

from . import csrf
from . import pages
from .extensions import db
from .extensions import ecotone
from .shops import requests
from .shops.shop import databases


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Build the shops. *config* overrides the defaults and ``FLASK_*`` variables."""
    app = Flask(__name__)
    app.config.from_mapping(
        SECRET_KEY="dev",
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_BINDS=databases(),
        WORKER_HEALTH_FILE=str(Path(app.instance_path) / "worker.alive"),
    )
    app.config.from_prefixed_env()
    app.config.from_mapping(config or {})

    db.init_app(app)
    ecotone.init_app(app)
    csrf.init_app(app)
    pages.init_app(app)
    requests.init_app(app)

    # With the aggregates imported, the tables are known before the first message.
    from .catalogue import product as product
    from .catalogue.views import bp as catalogue
    from .mailing import mailbox as mailbox
    from .mailing.views import bp as mailing
    from .operations.views import bp as operations
    from .ordering import order as order
    from .ordering.views import bp as ordering
    from .reporting.views import bp as reporting
    from .shops.views import bp as shops

    app.register_blueprint(shops)
    app.register_blueprint(operations)
    for blueprint in (catalogue, mailing, ordering, reporting):
        app.register_blueprint(blueprint, url_prefix=requests.PREFIX)
    return app
