"""Text as databases store it."""

from __future__ import annotations


def storable(text: str, length: int) -> str:
    """Return text without what no database stores, and shortened."""
    text = text.replace("\0", "\ufffd")[:length]
    return text.encode(errors="replace").decode()
