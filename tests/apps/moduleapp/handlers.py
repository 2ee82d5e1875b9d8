"""Another handler of the package, which knows the command by its import name."""

from flask_ecotone import query_handler


@query_handler("greeting")
def greeting() -> str:
    """Return the greeting."""
    return "Hello"
