"""Which modules can wait until they are needed, and which are there at each boot."""

from __future__ import annotations

import pytest

from .conftest import Site


@pytest.mark.parametrize(
    "source",
    [
        "from . import ecotone\n@ecotone.provider\ndef make() -> Odd: return Odd(7)",
        "from . import ecotone\necotone.provide(Odd, lambda: Odd(7))",
        "import flask\nif True:\n    pages = flask.Blueprint('pages', __name__)",
        "from flask import template_rendered\n@template_rendered.connect\n"
        "def rendered(sender, **more): ...",
        "from .registry import plugins\nplugins.add(Odd)",
        "from . import registry\nregistry.setting = 1",
        "from .registry import listed\nlisted.append(Odd)",
        "from . import registry\nregistry.listed += [Odd]",
        "from .registry import Plugin\nclass Mine(Plugin): ...",
        "from sqlalchemy import MetaData, Table\ntable = Table('odd', MetaData())",
    ],
    ids=[
        *("provider", "provide", "blueprint", "signal", "call", "attribute"),
        *("list", "augmented", "subclass", "table"),
    ],
)
def test_module_that_does_more_is_imported_at_boot(site: Site, source: str) -> None:
    """A module that does something to others when it is imported can't wait."""
    site.write_handlers("plain")
    site.write(
        "registry.py",
        """
        class Plugins:
            def add(self, cls): ...
        class Plugin:
            def __init_subclass__(cls): ...
        plugins, setting, listed = Plugins(), 0, []
        """,
    )
    site.write(
        "odd.py",
        f"from flask_ecotone import command_handler\n"
        f"class Odd:\n    def __init__(self, n: int) -> None: ...\n{source}\n"
        "@command_handler('odd')\ndef odd() -> None: ...\n",
    )
    site.boot()

    found = site.boot("state.system; result = modules()")

    assert "small.odd" in found
    assert "small.plain" not in found


def test_what_shapes_a_definition_can_wait(site: Site) -> None:
    """Dataclasses, markers of one's own, loggers and lists don't keep a module."""
    site.write(
        "marking.py",
        """
        from dataclasses import dataclass
        from flask_ecotone import command_bus, EndpointMarker

        @dataclass(frozen=True)
        class Role(EndpointMarker):
            name: str
        """,
    )
    site.write(
        "plain.py",
        """
        import enum, functools, logging
        import msgspec
        from typing import TYPE_CHECKING
        from flask_ecotone import command_handler
        from . import marking
        from .marking import command_bus

        if TYPE_CHECKING:
            from decimal import Decimal

        logger = logging.getLogger(__name__)
        logger.setLevel("INFO")
        known = []
        known.append(1)

        class Colour(enum.Enum):
            RED = 1

        class Paint(msgspec.Struct):
            colour: Colour

        @functools.lru_cache(maxsize=None)
        def price() -> int:
            return 1

        @marking.Role("painter")
        @command_handler
        def paint(command: Paint) -> str:
            return command.colour.name
        """,
    )
    site.boot()

    found = site.boot(
        """
        state.system
        result = [modules()]
        from small.plain import Colour, Paint
        result.append(state.command_bus.send(Paint(Colour.RED)))
        """
    )

    assert found == [[], "RED"]


def test_handlers_made_in_functions_do_not_wait(site: Site) -> None:
    """What a function makes has no name to find it by: its module is imported."""
    site.write(
        "made.py",
        """
        from flask_ecotone import command_handler

        def make(name):
            @command_handler(name)
            def handle() -> str:
                return name
            return handle

        handle = make("made")
        """,
    )
    code = 'result = [modules(), state.command_bus.send_with_routing("made")]'

    assert site.boot("state.system;" + code) == [["small.made"], "made"]
    assert site.boot("state.system;" + code) == [["small.made"], "made"]
