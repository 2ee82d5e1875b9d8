"""The extensions, created once and bound to an application in ``create_app``."""

from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone

db = SQLAlchemy()
ecotone = Ecotone()
