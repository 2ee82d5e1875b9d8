"""A handler that hands its reply to another module."""

from flask_ecotone import command_handler


@command_handler("step.one", output_channel="step.two")
def one(number: int) -> int:
    return number + 1
