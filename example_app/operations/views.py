"""The operations page of both shops, and its buttons.

The page has no shop. Each button is in the shop whose messages it is for, so that the
address says it, as everywhere else.
"""

from datetime import datetime
from datetime import UTC

from flask import Blueprint
from flask import current_app
from flask import flash
from flask import g
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue

from flask_ecotone import command_bus
from flask_ecotone import DeadLetter
from flask_ecotone.errors import MessagingError

from ..extensions import ecotone
from ..extensions import NOTIFICATIONS
from ..mailing.messages import BreakMailbox
from ..mailing.messages import MendMailbox
from ..shops.requests import PREFIX
from . import overview
from .waiting import FastForward

bp = Blueprint("operations", __name__)

UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@bp.app_template_filter()
def span(seconds: float) -> str:
    """Format a span of time in its largest unit: 7 days, 2 minutes, 0 seconds."""
    size, unit = next((u for u in UNITS if round(seconds) >= u[0]), UNITS[-1])
    count = round(max(seconds, 0) / size)
    return f"{count} {unit}{'' if count == 1 else 's'}"


@bp.app_template_filter()
def epoch(milliseconds: int) -> datetime:
    """Turn the time of a message into a point in time."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


@bp.app_template_filter()
def ahead(milliseconds: int) -> str:
    """Say how long it is until the time of a message."""
    seconds = (epoch(milliseconds) - datetime.now(UTC)).total_seconds()
    return f"in {span(seconds)}" if round(seconds) > 0 else "now"


@bp.get("/operations")
def show() -> str:
    """Show queues, dead letters and the worker; ``?watch=1`` does so every second."""
    return render_template(
        "operations/index.html",
        backrooms=overview.backrooms(),
        worker=overview.worker(),
        health_file=current_app.config["WORKER_HEALTH_FILE"],
        is_watched=is_watched(),
    )


def is_watched() -> bool:
    """Whether the page reloads itself; the buttons keep it that way."""
    return "watch" in request.args


def back(text: str) -> ResponseReturnValue:
    """Go back to the page, and to the shop on it that something was done in."""
    flash(f"{g.shop.name}: {text}")
    watch = 1 if is_watched() else None
    return redirect(url_for(".show", watch=watch), 303)


@bp.post(f"{PREFIX}/operations/fast-forward")
def fast_forward() -> ResponseReturnValue:
    """Make the delayed messages of the shop due."""
    count = command_bus.send(FastForward(NOTIFICATIONS))
    return back(f"time flew by, and {count} of the delayed messages became due.")


@bp.post(f"{PREFIX}/operations/break")
def break_mailbox() -> ResponseReturnValue:
    """Break the mailbox of the shop."""
    command_bus.send(BreakMailbox())
    return back("the mailbox is broken. Order something, and watch the mail fail.")


@bp.post(f"{PREFIX}/operations/mend")
def mend_mailbox() -> ResponseReturnValue:
    """Mend the mailbox of the shop."""
    command_bus.send(MendMailbox())
    return back("the mailbox is mended. Mails that were parked wait for a replay.")


@bp.post(f"{PREFIX}/operations/dead-letters/<int:id>/replay")
def replay(id: int) -> ResponseReturnValue:
    """Put a dead letter back into its channel."""
    try:
        ecotone.service(DeadLetter).replay(id, tenant=g.shop.key)
    except MessagingError:
        return back("that message is no longer here. Somebody else was faster.")
    return back("the message is back in its queue.")


@bp.post(f"{PREFIX}/operations/dead-letters/<int:id>/delete")
def delete(id: int) -> ResponseReturnValue:
    """Give a dead letter up."""
    if not ecotone.service(DeadLetter).delete(id, tenant=g.shop.key):
        return back("that message is no longer here. Somebody else was faster.")
    return back("the message is deleted.")
