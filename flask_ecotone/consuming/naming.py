"""What logs call a message."""

from __future__ import annotations

from ..channels.parking import headers_of
from ..channels.protocols import Envelope
from ..channels.protocols import Origin
from ..tenancy.tenants import shown


def named(source: Origin, envelope: Envelope, tenant_header: str | None) -> str:
    """Return a message by its id, endpoint, channel and tenant, to begin a line with.

    :param tenant_header: The header that names the tenant; ``None`` without tenants.
    """
    where = f"channel {source.channel}"
    if tenant_header is not None:
        # Several may share a database, and so the source.
        tenant = headers_of(envelope).get(tenant_header, source.tenant)
        where += f", tenant {shown('-' if tenant is None else tenant)}"
    endpoint = shown(envelope.endpoint_id)
    return f"The message {shown(envelope.message_id)} for {endpoint} ({where})"
