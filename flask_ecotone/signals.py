"""Blinker signals, for observing. Nothing in the extension depends on a receiver."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

tenant_activated = _signals.signal(
    "tenant-activated",
    doc="""Sent after a tenant became the active one.

    :param sender: The Flask application.
    :param tenant: The tenant, as in the message header.
    :param bind_key: The Flask-SQLAlchemy bind that serves it.
    """,
)

tenant_deactivated = _signals.signal(
    "tenant-deactivated",
    doc="""Sent after a tenant stopped being the active one.

    :param sender: The Flask application.
    :param tenant: The tenant, as in the message header.
    :param bind_key: The Flask-SQLAlchemy bind that served it.
    """,
)
