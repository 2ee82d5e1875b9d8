"""What a newcomer forgets is an error, and not a silent loss."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import Identifier
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import ModellingError
from flask_ecotone.testing import flow_testing


@dataclass
class AddBook:
    title: str


def test_a_model_with_handlers_must_be_an_aggregate() -> None:
    """Without @aggregate nothing would load or save the model."""
    db = SQLAlchemy()

    class Book(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)

        @command_handler
        def rename(self, command: AddBook) -> None: ...

    with pytest.raises(HandlerSignatureError, match="Mark the class with @aggregate"):
        flow_testing([Book])


def test_an_action_that_takes_cls_lacks_classmethod() -> None:
    """The error says so, instead of asking which instance is meant."""

    @aggregate
    class Book:
        title: t.Annotated[str, Identifier()]

        @command_handler
        def add(cls, command: AddBook) -> t.Any: ...

    with pytest.raises(HandlerSignatureError, match="Put @classmethod under"):
        flow_testing([Book])


def test_a_factory_that_forgets_to_return_is_an_error() -> None:
    """A new aggregate that isn't returned would be lost."""

    @aggregate
    class Book:
        title: t.Annotated[str, Identifier()]

        @command_handler
        @classmethod
        def add(cls, command: AddBook) -> t.Self:
            cls()
            return None  # type: ignore[return-value]

    flow = flow_testing([Book])
    with pytest.raises(ModellingError, match="returned NoneType. Return a new "):
        flow.send_command(AddBook("Emma"))


def test_a_service_is_provided_by_a_factory() -> None:
    """An object in place of a factory is refused at once, and named."""
    with pytest.raises(ConfigurationError, match="AddBook was provided as AddBook"):
        Ecotone(Flask("app"), services={AddBook: AddBook("Emma")})  # type: ignore[dict-item]
