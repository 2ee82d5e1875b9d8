"""The page with the mails."""

from flask import Blueprint
from flask import render_template

from flask_ecotone import query_bus

from .messages import ListMails

bp = Blueprint("mailing", __name__)


@bp.get("/inbox")
def show_inbox() -> str:
    """Show what was written to the shopper."""
    return render_template("mailing/inbox.html", mails=query_bus.send(ListMails()))
