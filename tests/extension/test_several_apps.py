"""Applications in one process know nothing of each other."""

from __future__ import annotations

import threading
import typing as t

import pytest
from flask import Flask

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import NoHandlerError

from .conftest import Run


class Memory:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    @command_handler("remember")
    def remember(self, word: str) -> None:
        self.words.append(word)

    @query_handler("recall")
    def recall(self) -> list[str]:
        return self.words


def two_apps(*handlers: t.Any) -> tuple[Flask, Flask]:
    """Return two applications of one extension."""
    ecotone = Ecotone(packages=[])
    ecotone.register(*handlers)
    first, second = Flask("first"), Flask("second")
    ecotone.init_app(first)
    ecotone.init_app(second)
    return first, second


def test_state_of_one_application_is_not_in_the_other() -> None:
    """Handlers are services of one system: what one keeps, the other never sees."""
    first, second = two_apps(Memory)
    with first.app_context():
        command_bus.send_with_routing("remember", "milk")
    with second.app_context():
        assert query_bus.send_with_routing("recall") == []
        command_bus.send_with_routing("remember", "bread")
    with first.app_context():
        assert query_bus.send_with_routing("recall") == ["milk"]
        with second.app_context():
            assert query_bus.send_with_routing("recall") == ["bread"]
        assert query_bus.send_with_routing("recall") == ["milk"]
    states = [app.extensions["ecotone"] for app in (first, second)]
    assert states[0].system is not states[1].system


@pytest.mark.usefixtures("apps")
def test_one_extension_serves_applications_with_other_handlers() -> None:
    """Each application has the handlers that its own configuration names."""
    ecotone = Ecotone()
    first, second = Flask("sampleapp"), Flask("sampleapp")
    first.config["ECOTONE_NAMESPACES"] = "crm"
    second.config["ECOTONE_NAMESPACES"] = "sampleapp.orders"
    for app in (first, second):
        ecotone.init_app(app)
    with first.app_context():
        assert command_bus.send_with_routing("crm.greet", "Ada") == "Hello Ada"
        with pytest.raises(NoHandlerError):
            command_bus.send_with_routing("order.cancel", "1")
    with second.app_context():
        assert command_bus.send_with_routing("order.cancel", "1") == "1 is cancelled"
        with pytest.raises(NoHandlerError):
            command_bus.send_with_routing("crm.greet", "Ada")


def test_headers_do_not_cross_applications() -> None:
    """A handler that uses another application hands it no headers."""
    seen: list[dict[str, t.Any] | None] = []

    @command_handler("outer")
    def outer() -> None:
        with second.app_context():
            assert not current_message
            command_bus.send_with_routing("inner")
        assert current_message.headers["user"] == "ada"

    @command_handler("inner")
    def inner() -> None:
        seen.append(current_message.headers.get("user"))

    first, second = two_apps(outer, inner)
    with first.app_context():
        command_bus.send_with_routing("outer", metadata={"user": "ada"})
    assert seen == [None]


def test_sixteen_threads_interleave_two_applications() -> None:
    """From many threads at once, each application counts its own messages only."""

    @command_handler("relay")
    def relay(word: str) -> str:
        header = current_message.headers["thread"]
        return f"{current_ecotone_name()}:{header}:{query_bus.send_with_routing('me')}"

    @query_handler("me")
    def me() -> str:
        return str(current_message.headers["thread"])

    def current_ecotone_name() -> str:
        from flask import current_app

        return current_app.name

    apps = two_apps(Memory, relay, me)
    start = threading.Barrier(16)
    wrong: list[str] = []

    def work(number: int) -> None:
        start.wait()
        for turn in range(50):
            app = apps[(number + turn) % 2]
            with app.app_context():
                answer = command_bus.send_with_routing(
                    "relay", "x", metadata={"thread": number}
                )
                if answer != f"{app.name}:{number}:{number}":
                    wrong.append(answer)
                command_bus.send_with_routing("remember", f"{app.name} {number}")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    for app in apps:
        with app.app_context():
            words = query_bus.send_with_routing("recall")
        assert len(words) == 400
        assert {word.split()[0] for word in words} == {app.name}


GEVENT = """
import warnings
warnings.simplefilter("ignore")
from gevent import monkey
monkey.patch_all()
warnings.simplefilter("error")
import sys

import gevent
import sqlalchemy as sa
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from flask_ecotone import command_bus, command_handler, current_message, Ecotone

db = SQLAlchemy()
ecotone = Ecotone(packages=[])


@ecotone.register
@command_handler("count")
def count():
    before = current_message.headers["greenlet"], current_app.name
    found = db.session.scalar(sa.text("SELECT n FROM counter"))
    gevent.sleep(0)
    db.session.execute(sa.text("UPDATE counter SET n = :n"), {"n": found + 1})
    assert before == (current_message.headers["greenlet"], current_app.name)


apps = []
for name in ("first", "second"):
    app = Flask(name)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{sys.argv[1]}/{name}.sqlite"
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": {"timeout": 0}}
    db.init_app(app)
    ecotone.init_app(app)
    with app.app_context():
        db.session.execute(sa.text("CREATE TABLE counter (n INTEGER)"))
        db.session.execute(sa.text("INSERT INTO counter VALUES (0)"))
        db.session.commit()
    apps.append(app)
lock = {app.name: gevent.lock.RLock() for app in apps}


def work(number):
    for turn in range(10):
        app = apps[(number + turn) % 2]
        with lock[app.name], app.app_context():
            command_bus.send_with_routing("count", metadata={"greenlet": number})


gevent.joinall([gevent.spawn(work, n) for n in range(16)], raise_error=True)
for app in apps:
    with app.app_context():
        print(app.name, db.session.scalar(sa.text("SELECT n FROM counter")))
        db.session.remove()
        db.engine.dispose()
"""


def test_greenlets_interleave_two_applications(run: Run, tmp_path: t.Any) -> None:
    """Patched by gevent, each greenlet has its message and its transaction."""
    finished = run("-c", GEVENT, str(tmp_path))
    assert finished.stderr == ""
    assert finished.stdout.splitlines() == ["first 80", "second 80"]
