"""Threads, greenlets and several applications at once."""

import subprocess
import sys
import threading
import typing as t
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from flask_ecotone import add_header
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import Message
from flask_ecotone import propagate_headers
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import state
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.message import new_id
from flask_ecotone.testing import flow_testing

THREADS = 16


@dataclass(frozen=True)
class Work:
    number: int = 0


@dataclass(frozen=True)
class Happened:
    number: int = 0


@pytest.fixture(autouse=True)
def switch_often() -> t.Iterator[None]:
    """Let threads interrupt each other as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(function: Callable[[int], t.Any]) -> list[t.Any]:
    """Call a function in many threads that begin together; return the results."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> t.Any:
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


def app_with(*found: t.Any) -> Flask:
    """Return an application with handlers."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(*found)
    ecotone.init_app(app)
    return app


def test_headers_of_threads_do_not_cross() -> None:
    """Commands, their events and queries carry the headers of their own thread."""
    heard: dict[tuple[int, int], list[str]] = {}

    @command_handler
    def work(command: Work, message: Message) -> t.Any:
        event_bus.publish(Happened(command.number))
        return query_bus.send_with_routing("who"), message.headers.message_id

    @event_handler
    def listen(event: Happened, user: t.Annotated[int, Header("user")]) -> None:
        key = user, event.number
        heard.setdefault(key, []).append(query_bus.send_with_routing("who")[1])

    @query_handler("who")
    def who(message: Message) -> t.Any:
        return message.headers["user"], message.headers.correlation_id

    app = app_with(work, listen, who)

    def send(user: int) -> list[str]:
        flows = []
        with app.app_context():
            for number in range(60):
                metadata = {"user": user}
                (found, flow), id = command_bus.send(Work(number), metadata)
                assert found == user
                assert flow == id
                flows.append(flow)
                assert heard[user, number] == [flow]
        return flows

    flows = [flow for listed in at_once(send) for flow in listed]
    assert len(set(flows)) == len(flows) == THREADS * 60


def test_headers_of_greenlets_do_not_cross() -> None:
    """The same in a process that gevent patched, switching between all steps."""
    pytest.importorskip("gevent")
    script = Path(__file__).with_name("gevent_headers.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["640", "32"]


def test_applications_with_different_handlers_do_not_cross() -> None:
    """Interleaved in one thread and from many: each app has its handlers alone."""

    def app_named(name: str) -> Flask:
        @command_handler
        def work(command: Work, message: Message) -> t.Any:
            return name, message.headers.parent_id, query_bus.send_with_routing("only")

        @query_handler("only")
        def only(message: Message) -> t.Any:
            return name, message.headers.get("user")

        @query_handler(f"only.{name}")
        def of_this_app() -> str:
            return name

        return app_with(work, only, of_this_app)

    apps = {name: app_named(name) for name in ("first", "second")}

    def use(number: int) -> None:
        for turn in range(30):
            for name, app in apps.items():
                other = "second" if name == "first" else "first"
                with app.app_context():
                    user = f"{number}.{turn}.{name}"
                    result = command_bus.send(Work(), {"user": user})
                    assert result == (name, None, (name, user))
                    assert query_bus.send_with_routing(f"only.{name}") == name
                    with pytest.raises(NoHandlerError):
                        query_bus.send_with_routing(f"only.{other}")

    use(0)
    at_once(use)


def test_application_called_by_another_does_not_inherit_its_headers() -> None:
    """A handler that uses another app in the same thread starts a new flow there."""

    @query_handler("inner")
    def inner(message: Message) -> t.Any:
        return dict(message.headers)

    second = app_with(inner)

    @command_handler
    def work(command: Work, message: Message) -> t.Any:
        with second.app_context():
            headers = query_bus.send_with_routing("inner")
        return headers, message.headers

    first = app_with(work)
    with first.app_context():
        headers, own = command_bus.send(Work(), {"user": "mia"})
    assert "user" not in headers
    assert "parentId" not in headers
    assert headers["correlationId"] == headers["id"] != own["id"]


def test_first_use_by_many_threads_compiles_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them get the one system, and their messages are handled."""
    compiled: list[int] = []
    compile_system = state.compile_system

    def counted(*args: t.Any, **options: t.Any) -> t.Any:
        compiled.append(1)
        return compile_system(*args, **options)

    monkeypatch.setattr(state, "compile_system", counted)

    @command_handler
    def work(command: Work) -> int:
        return command.number

    for _ in range(5):
        compiled.clear()
        app = app_with(work)

        def use(number: int, app: Flask = app) -> t.Any:
            with app.app_context():
                result = command_bus.send(Work(number))
            return result, app.extensions["ecotone"].system

        results = at_once(use)
        assert [result for result, _ in results] == list(range(THREADS))
        assert len({id(system) for _, system in results}) == 1
        assert compiled == [1]


def test_first_use_that_fails_fails_alike_for_many_threads() -> None:
    """One error for all, and for those who come later."""

    @command_handler
    def first(command: Work) -> None: ...

    @command_handler
    def second(command: Work) -> None: ...

    app = app_with(first, second)

    def use(number: int) -> str:
        with app.app_context(), pytest.raises(DuplicateHandlerError) as caught:
            command_bus.send(Work())
        return str(caught.value)

    said = {*at_once(use), use(0)}
    assert len(said) == 1


def test_handler_object_is_made_once_for_many_threads() -> None:
    """The first messages of all threads race for it."""
    made: list[int] = []

    class Worker:
        def __init__(self) -> None:
            made.append(1)
            sum(range(50_000))  # long enough to be interrupted

        @command_handler
        def work(self, command: Work) -> int:
            return id(self)

    app = app_with(Worker)

    def use(number: int) -> int:
        with app.app_context():
            return t.cast(int, command_bus.send(Work()))

    assert len(set(at_once(use))) == 1
    assert made == [1]


def test_headers_completed_by_many_threads_have_one_id() -> None:
    """Whoever asks first, everybody reads the same."""
    for _ in range(30):
        parent = Message("parent", {"user": "mia"})
        message = Message("payload", {"role": "admin"}, parent)
        copied = message.with_payload("other")

        def read(
            number: int, message: Message = message, copied: Message = copied
        ) -> t.Any:
            chosen = message if number % 2 else copied
            early = chosen.header("user"), chosen.header("role")
            headers = chosen.headers
            return early, headers.message_id, headers.parent_id, headers["user"]

        results = set(at_once(read))
        assert len(results) == 1
        (early, message_id, parent_id, user) = results.pop()
        assert early == ("mia", "admin")
        assert message_id == message.headers.message_id == copied.headers.message_id
        assert parent_id == parent.headers.message_id
        assert user == "mia"


def test_ids_made_by_many_threads_are_unique() -> None:
    """The random bits of one batch are handed out once."""
    made = at_once(lambda number: [new_id() for _ in range(2000)])
    ids = [id for listed in made for id in listed]
    assert len(set(ids)) == len(ids)


def test_thread_started_by_a_handler_starts_a_flow_of_its_own() -> None:
    """Context variables don't reach other threads by themselves."""
    found: list[t.Any] = []

    @query_handler("who")
    def who(message: Message) -> t.Any:
        return dict(message.headers)

    @command_handler
    def work(command: Work) -> None:
        thread = threading.Thread(
            target=lambda: found.append(flow.query_bus.send_with_routing("who"))
        )
        thread.start()
        thread.join()

    flow = flow_testing([work, who])
    flow.command_bus.send(Work(), {"user": "mia"})
    assert "user" not in found[0]
    assert found[0]["correlationId"] == found[0]["id"]


def test_silent_bus_and_marked_headers_stay_with_their_thread() -> None:
    """Silence and added headers of one message don't reach those of other threads."""

    @propagate_headers(False)
    class SilentBus(CommandBus): ...

    @add_header("added", expression="payload.number")
    @command_handler
    def work(command: Work, added: t.Annotated[int, Header("added")]) -> t.Any:
        return added, flow.query_bus.send_with_routing("who")

    @query_handler("who")
    def who(user: t.Annotated[int | None, Header("user")]) -> t.Any:
        return user

    flow = flow_testing([SilentBus, work, who])
    silent, loud = flow.gateway(SilentBus), flow.command_bus

    def use(number: int) -> None:
        for turn in range(60):
            is_silent = (number + turn) % 2 == 0
            bus = silent if is_silent else loud
            expected = None if is_silent else number
            result = bus.send(Work(turn), {"user": number})
            assert result == (turn, expected)

    at_once(use)
