"""A business interface whose messages go to a module that waits."""

from typing import Protocol

from flask_ecotone import business_method


class Steps(Protocol):
    @business_method("step.one")
    def begin(self, number: int) -> str: ...
