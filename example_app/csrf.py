"""Refuse a form that was not rendered for this visitor."""

import hmac
import secrets

from flask import abort
from flask import Flask
from flask import request
from flask import session
from markupsafe import Markup


def token() -> str:
    """Return the visitor's token; make one on the first form."""
    return str(session.setdefault("csrf_token", secrets.token_urlsafe(32)))


def field() -> Markup:
    """Render the hidden field: ``{{ csrf_field() }}`` inside every POST form."""
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(token())


def check() -> None:
    """Compare the form's token with the session's before any POST."""
    if request.method == "POST":
        sent = request.form.get("csrf_token", "").encode()
        if not hmac.compare_digest(sent, token().encode()):
            abort(400, "This form has expired. Go back, reload the page and try again.")


def init_app(app: Flask) -> None:
    """Check every request of *app* and offer ``csrf_field`` to its templates."""
    app.before_request(check)
    app.add_template_global(field, "csrf_field")
