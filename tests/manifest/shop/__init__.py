"""An application with one of everything; most modules have nothing but handlers."""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import command_handler
from flask_ecotone import Ecotone

db = SQLAlchemy()
ecotone = Ecotone()


class Clock:
    """A service that a factory makes."""

    made = 0

    def __init__(self, now: str) -> None:
        self.now = now


@ecotone.provider
def make_clock() -> Clock:
    Clock.made += 1
    return Clock("noon")


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite:///shop.sqlite"
    db.init_app(app)
    ecotone.init_app(app)
    ecotone.register(_registered())
    return app


def _registered():
    @command_handler("registered")
    def registered() -> str:
        return "registered"

    return registered
