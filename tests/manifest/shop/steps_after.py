"""The end of a chain."""

from flask_ecotone import internal_handler


@internal_handler("step.two")
def two(number: int) -> str:
    return f"two of {number}"
