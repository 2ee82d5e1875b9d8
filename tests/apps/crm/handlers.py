"""A handler beside the blueprint."""

from flask_ecotone import command_handler


@command_handler("crm.greet")
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"
