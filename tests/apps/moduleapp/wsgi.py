"""Run with ``python -m moduleapp.wsgi``, it is known by two names."""

from dataclasses import dataclass

from flask import Flask

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone


@dataclass
class Greet:
    """The command."""

    name: str


@command_handler
def greet(command: Greet) -> str:
    """Greet somebody."""
    return f"Hello {command.name}"


app = Flask(__name__)
ecotone = Ecotone(app)

if __name__ == "__main__":
    with app.app_context():
        print(command_bus.send(Greet("Ada")))
        print(len(ecotone.compile().endpoints))
