"""The blueprint."""

from flask import Blueprint

from flask_ecotone import command_bus

blueprint = Blueprint("crm", __name__)


@blueprint.post("/greet/<name>")
def greet(name: str) -> str:
    """Greet somebody."""
    answer = command_bus.send_with_routing("crm.greet", name)
    return str(answer)
