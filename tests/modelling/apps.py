"""Small applications for the tests of this folder."""

from __future__ import annotations

import typing as t

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone


def application(
    url: str, db: SQLAlchemy, found: t.Iterable[t.Any], **config: t.Any
) -> tuple[Flask, Ecotone]:
    """Return an application with the tables of ``db`` and handlers of a test."""
    app = Flask(__name__)
    app.config.from_mapping(SQLALCHEMY_DATABASE_URI=url, TESTING=True, **config)
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])
    ecotone.register(*found)
    with app.app_context():
        db.create_all()
    return app, ecotone
