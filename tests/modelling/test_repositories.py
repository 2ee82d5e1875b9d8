"""Repositories of the application, and business interfaces to aggregates."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import Fetch
from flask_ecotone import Header
from flask_ecotone import Identifier
from flask_ecotone import query_handler
from flask_ecotone import repository
from flask_ecotone import repository_method
from flask_ecotone import Version
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import IdentifierMissingError
from flask_ecotone.errors import ModellingError
from flask_ecotone.testing import flow_testing

from .apps import application

db = SQLAlchemy()


@dataclass
class Touched:
    """What a card records."""

    name: str


@aggregate
@dataclass
class Card(WithEvents):
    """A plain aggregate."""

    name: t.Annotated[str, Identifier()]
    version: t.Annotated[int, Version()] = 0

    @command_handler("card.make")
    @classmethod
    def make(cls, name: str) -> t.Self:
        return cls(name)

    @command_handler("card.touch")
    def touch(self) -> None:
        self.record_that(Touched(self.name))

    @query_handler("card.version")
    def get(self) -> int:
        return self.version


@aggregate
@dataclass
class Cell:
    """A plain aggregate with two identifiers and no handlers."""

    row: t.Annotated[int, Identifier()]
    column: t.Annotated[int, Identifier()]
    text: str = ""


class Remembering:
    """The base of repositories that remember their calls."""

    handled: t.ClassVar[type] = Card

    def __init__(self) -> None:
        self.calls: list[t.Any] = []
        self.cards: dict[t.Any, t.Any] = {}

    def can_handle(self, aggregate_class: type) -> bool:
        return aggregate_class is self.handled

    def find_by(self, aggregate_class: type, identifiers: dict[str, t.Any]) -> t.Any:
        return self.cards.get(tuple(identifiers.values()))

    def save(
        self, identifiers: t.Any, aggregate: t.Any, metadata: t.Any, version: t.Any
    ) -> None:
        self.calls.append((dict(identifiers), dict(metadata), version))
        self.cards[tuple(identifiers.values())] = aggregate


@repository
class CardRepository(Remembering):
    """Stores cards."""


@repository
class CellRepository(Remembering):
    """Stores cells."""

    handled = Cell


def test_a_repository_gets_identifiers_metadata_and_the_version_before() -> None:
    """Factories hand 0, actions what was loaded; headers are the application's only."""
    cards = CardRepository()
    flow = flow_testing([Card, CardRepository], services=[cards])
    flow.send_command_with_routing("card.make", "c", metadata={"user": "ann"})
    flow.send_command_with_routing(
        "card.touch", metadata={"aggregate.id": "c", "user": "bob"}
    )
    assert cards.calls == [
        ({"name": "c"}, {"user": "ann"}, 0),
        ({"name": "c"}, {"user": "bob"}, 1),
    ]
    assert cards.cards["c",].version == 2


def test_each_aggregate_goes_to_the_repository_that_handles_it() -> None:
    """What none of the application's repositories handles is kept in memory."""
    cards, cells = CardRepository(), CellRepository()
    flow = flow_testing(
        [Card, Cell, CardRepository, CellRepository], services=[cards, cells]
    )
    flow.with_state_for(Card("c"), Cell(1, 2))
    assert (len(cards.cards), len(cells.cards)) == (1, 1)
    flow = flow_testing([Card, Cell, CardRepository], services=[cards])
    flow.with_state_for(Cell(3, 4, "kept"))
    assert flow.aggregate(Cell, {"column": 4, "row": 3}).text == "kept"


def test_the_first_repository_that_handles_an_aggregate_is_used() -> None:
    """In the order of their registration."""

    @repository
    class Other(Remembering): ...

    first, second = CardRepository(), Other()
    flow = flow_testing([Card, CardRepository, Other], services=[first, second])
    flow.with_state_for(Card("c"))
    assert (len(first.cards), len(second.cards)) == (1, 0)


def test_an_aggregate_without_repository_is_an_error_that_lists_them() -> None:
    """The error says what can be done."""
    flow = flow_testing([Card, CellRepository], in_memory_repositories=False)
    with pytest.raises(ModellingError) as caught:
        flow.send_command_with_routing("card.make", "c")
    for part in ("Card", "CellRepository", "@repository", "db.Model"):
        assert part in str(caught.value)


def test_a_repository_without_the_methods_does_not_compile() -> None:
    """The error names the class and what is missing."""

    @repository
    class Half:
        def can_handle(self, aggregate_class: type) -> bool:
            return True

    with pytest.raises(ConfigurationError, match=r"Half.* find_by, save"):
        flow_testing([Card, Half])


def test_a_repository_gets_its_services() -> None:
    """It is a service itself, made once."""

    class Store:
        def __init__(self) -> None:
            self.cards: dict[str, Card] = {}

    @repository
    class Injected:
        def __init__(self, store: Store) -> None:
            self.store = store

        def can_handle(self, aggregate_class: type) -> bool:
            return aggregate_class is Card

        def find_by(self, aggregate_class: type, identifiers: t.Any) -> t.Any:
            return self.store.cards.get(identifiers["name"])

        def save(self, identifiers: t.Any, aggregate: t.Any, *rest: t.Any) -> None:
            self.store.cards[identifiers["name"]] = aggregate

    Injected.__init__.__annotations__["store"] = Store
    store = Store()
    flow = flow_testing([Card, Injected], services=[store])
    flow.send_command_with_routing("card.make", "c")
    assert list(store.cards) == ["c"]


class Cards(t.Protocol):
    """A business interface to cards."""

    @repository_method
    def get(self, name: str) -> Card: ...

    @repository_method
    def find(self, name: str) -> Card | None: ...

    @repository_method
    def save(self, card: Card) -> None: ...


class Cells(t.Protocol):
    """A business interface with several identifiers, in another order."""

    @repository_method
    def get(self, column: int, row: int) -> Cell: ...

    @repository_method
    def find(
        self, x: t.Annotated[int, Identifier("row")], column: int
    ) -> Cell | None: ...

    @repository_method
    def by(self, key: dict[str, int]) -> Cell | None: ...

    @repository_method
    def save(self, cell: Cell) -> None: ...


def test_a_repository_method_loads_by_its_return_type() -> None:
    """A missing aggregate is an error or None, as annotated."""
    flow = flow_testing([Card, Cards]).with_state_for(Card("c"))
    cards = flow.gateway(Cards)
    assert cards.get("c").name == "c"
    assert cards.find(name="c") is not None
    assert cards.find("x") is None
    with pytest.raises(AggregateNotFoundError, match="Card .*'x'"):
        cards.get("x")


def test_several_identifiers_are_matched_by_name() -> None:
    """Not by position: two numbers are swapped easily."""
    flow = flow_testing([Cell, Cells])
    cells = flow.gateway(Cells)
    cells.save(Cell(row=1, column=2, text="here"))
    assert cells.get(2, 1).text == "here"
    assert cells.get(row=1, column=2).text == "here"
    assert cells.find(2, 1) is None
    found = cells.find(1, 2)
    assert found is not None and found.text == "here"
    assert cells.by({"row": 2, "column": 1}) is None
    assert cells.by({"row": 1, "column": 2}) is not None


def test_parameters_that_are_no_identifiers_do_not_compile() -> None:
    """The error names both sides."""

    class Wrong(t.Protocol):
        @repository_method
        def get(self, x: int, y: int) -> Cell: ...

    with pytest.raises(HandlerSignatureError, match="takes x, y, and Cell .*row, col"):
        flow_testing([Cell, Wrong])


def test_saving_publishes_events_and_counts_from_the_loaded_version() -> None:
    """Upstream sets the version back to 1."""
    flow = flow_testing([Card, Cards]).with_state_for(Card("c", 7))
    cards = flow.gateway(Cards)
    card = cards.get("c")
    card.touch()
    cards.save(card)
    assert flow.recorded_events() == [Touched("c")]
    assert flow.aggregate(Card, "c").version == 8
    cards.save(Card("new"))
    assert flow.aggregate(Card, "new").version == 1
    [headers] = flow_headers(flow, cards)
    assert headers["_aggregate_version"] == 2


def flow_headers(flow: t.Any, cards: Cards) -> t.Any:
    """Save the card 'new' again and return the headers of its events."""
    card = cards.get("new")
    card.touch()
    cards.save(card)
    return flow.recorded_event_headers()


def test_interfaces_that_can_not_work_do_not_compile() -> None:
    """Each error says what is wrong with the method."""

    class Nothing(t.Protocol):
        @repository_method
        def get(self) -> Card: ...

    class Unknown(t.Protocol):
        @repository_method
        def get(self, name: str) -> Touched: ...

    class Untyped(t.Protocol):
        @repository_method
        def get(self, name: str) -> list[Card]: ...

    class Half(t.Protocol):
        @repository_method
        def get(self, name: str) -> Card: ...

        def other(self) -> None: ...

    for wrong, said in (
        (Nothing, "takes nothing"),
        (Unknown, "Touched, which is no registered aggregate"),
        (Untyped, "returns list"),
        (Half, "nothing implements: other"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            flow_testing([Card, wrong])


@dataclass
class Send:
    """A command that names a card."""

    card: str | None


def test_fetch_loads_another_aggregate_and_does_not_save_it() -> None:
    """By a callable or a string, from the payload or the headers."""

    @command_handler
    def send(
        command: Send,
        card: t.Annotated[Card, Fetch(lambda payload: payload.card)],
        other: t.Annotated[Card | None, Fetch("headers.get('other')")],
    ) -> t.Any:
        card.version = 99
        card.touch()
        return card.name, other and other.name

    flow = flow_testing([Card, send]).with_state_for(Card("a", 1), Card("b", 1))
    assert flow.command_bus.send(Send("a")) == ("a", None)
    assert flow.command_bus.send(Send("a"), {"other": "b"}) == ("a", "b")
    assert flow.command_bus.send(Send("a"), {"other": "unknown"}) == ("a", None)
    assert flow.aggregate(Card, "a").version == 1
    assert flow.recorded_events() == []
    for missing in (None, "unknown"):
        with pytest.raises(AggregateNotFoundError, match=r"'card' of .*send.*Card was"):
            flow.send_command(Send(missing))


def test_fetch_takes_a_dict_for_several_identifiers() -> None:
    """One value for them is an error."""

    @command_handler("read")
    def read(
        payload: t.Any, cell: t.Annotated[Cell, Fetch(lambda payload: payload)]
    ) -> str:
        return cell.text

    flow = flow_testing([Cell, read]).with_state_for(Cell(1, 2, "x"))
    send = flow.command_bus.send_with_routing
    assert send("read", {"row": 1, "column": 2}) == "x"
    with pytest.raises(IdentifierMissingError, match="identified by row, column"):
        send("read", 1)


def test_fetch_works_in_actions_of_other_aggregates() -> None:
    """An action may read another aggregate."""

    @aggregate
    @dataclass
    class Deck:
        deck: t.Annotated[str, Identifier()]
        top: int = 0

        @command_handler("deck.put")
        def put(
            self,
            card: t.Annotated[Card, Fetch(lambda headers: headers["card"])],
            user: t.Annotated[str, Header("user")],
        ) -> str:
            self.top = card.version
            return user

    flow = flow_testing([Card, Deck]).with_state_for(Card("c", 5), Deck("d"))
    flow.send_command_with_routing(
        "deck.put", metadata={"aggregate.id": "d", "card": "c", "user": "ann"}
    )
    assert flow.aggregate(Deck, "d").top == 5


def test_fetch_of_something_that_is_no_class_does_not_compile() -> None:
    """The error names the parameter."""

    @command_handler("wrong")
    def wrong(x: t.Annotated[Card | Cell, Fetch("payload")]) -> None: ...

    with pytest.raises(HandlerSignatureError, match="'x' fetches an aggregate"):
        flow_testing([Card, wrong])


@aggregate
class Page(WithEvents, db.Model):
    """A model with a version."""

    id: Mapped[int] = mapped_column(primary_key=True)
    views: Mapped[int] = mapped_column(default=0)
    version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)

    def view(self) -> None:
        self.views += 1
        self.record_that(Touched(f"page {self.views}"))


class Pages(t.Protocol):
    """A business interface to models."""

    @repository_method
    def find(self, id: int) -> Page | None: ...

    @repository_method
    def save(self, page: Page) -> None: ...


def test_models_are_loaded_and_saved_through_an_interface(database_url: str) -> None:
    """In a command: new models, changed ones and versions (U-18)."""
    seen: list[str] = []

    @event_handler
    def note(event: Touched) -> None:
        seen.append(event.name)

    @command_handler("page.add")
    def add(payload: t.Any, pages: Pages) -> int:
        page = Page(views=0)
        page.view()
        pages.save(page)
        assert page.id is not None
        return page.id

    @command_handler("page.view")
    def view(number: int, pages: Pages) -> int:
        page = pages.find(number)
        assert page is not None
        page.view()
        pages.save(page)
        return page.version

    app, ecotone = application(database_url, db, [Page, Pages, note, add, view])
    with app.app_context():
        page = command_bus.send_with_routing("page.add")
        for version in (2, 3):
            db.session.expunge_all()
            assert command_bus.send_with_routing("page.view", page) == version
        db.session.expunge_all()
        stored = ecotone.get(Pages).find(page)
        assert stored is not None
        assert (stored.views, stored.version) == (3, 3)
        assert ecotone.get(Pages).find(page + 1) is None
    assert seen == ["page 1", "page 2", "page 3"]
