"""Markers that say how a handler is called."""

from flask_ecotone import command_handler
from flask_ecotone import environment
from flask_ecotone import instant_retry
from flask_ecotone import without_transaction

from . import db

attempts: list[int] = []


@instant_retry(2)
@command_handler("retried")
def retried() -> int:
    attempts.append(1)
    if len(attempts) < 3:
        raise ValueError("again")
    return len(attempts)


@without_transaction
@command_handler("unguarded")
def unguarded() -> bool:
    return db.session().in_transaction()


@environment("production")
@command_handler("environment")
def in_production() -> str:
    return "production"


@environment("dev")
@command_handler("environment")
def in_development() -> str:
    return "dev"
