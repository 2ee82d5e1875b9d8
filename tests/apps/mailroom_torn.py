"""The mailroom, with a letter that can't be sorted and isn't tried again."""

from __future__ import annotations

from mailroom import app
from mailroom import db
from mailroom import ecotone

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import delayed_retry


@asynchronous("letters")
@delayed_retry(0, max_attempts=0)
@command_handler("torn", endpoint_id="torn")
def sort_torn() -> None:
    raise ValueError("torn")


ecotone.register(sort_torn)


@app.cli.command("send-torn")
def send() -> None:
    db.create_all()
    command_bus.send_with_routing("torn")
