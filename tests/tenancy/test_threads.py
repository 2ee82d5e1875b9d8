"""The tenant in other threads: only where it is handed over."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import typing as t
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import copy_current_message_context
from flask_ecotone import current_message
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenancyError
from flask_ecotone.errors import UnitOfWorkError

from .house import A
from .house import B
from .house import House
from .house import Register


def test_a_thread_takes_part_in_the_message(house: House) -> None:
    """It has the headers, the tenant and a unit of work of its own."""
    seen: list[t.Any] = []

    def work(number: int, *, name: str) -> str:
        seen.append(current_message.header("user"))
        command_bus.send(Register(number, name))
        seen.append(query_bus.send_with_routing("names"))
        with pytest.raises(ValueError):
            command_bus.send(Register(9, "bad"))
        return name

    @query_handler("start")
    def start() -> t.Any:
        copied = copy_current_message_context(work)
        assert copied.__name__ == "work"
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copied, 1, name="Alice").result()

    house.ecotone.register(start)
    with house.app.app_context():
        sent = {**A, "user": "ada"}
        assert query_bus.send_with_routing("start", metadata=sent) == "Alice"
    assert seen == ["ada", ["Alice"]]
    assert house.stored("bind_a") == [(1, "Alice")]


def test_it_does_not_see_what_is_not_committed(
    postgres_url: str, mariadb_url: str
) -> None:
    """The command that started it may fail: what the thread did is stored."""
    house = House({"bind_a": postgres_url, "bind_b": mariadb_url})
    seen: list[t.Any] = []

    def work() -> None:
        seen.append(house.names())
        command_bus.send(Register(2, "of the thread"))

    @command_handler("start")
    def start() -> None:
        house.write(1, "of the command")
        house.db.session.flush()
        thread = threading.Thread(target=copy_current_message_context(work))
        thread.start()
        thread.join()
        raise ValueError("bad")

    house.ecotone.register(start)
    with house.app.app_context():
        for metadata in (A, B):
            with pytest.raises(ValueError, match="bad"):
                command_bus.send_with_routing("start", metadata=metadata)
    assert seen == [[], []]
    assert house.stored("bind_a") == [(2, "of the thread")]
    assert house.stored("bind_b") == [(2, "of the thread")]
    house.check_clean()


def test_it_may_run_after_the_message(house: House) -> None:
    """A pool that takes it later works for the tenant, and for it alone."""
    later: list[Callable[[], t.Any]] = []

    @command_handler("start")
    def start(name: str) -> None:
        later.append(
            copy_current_message_context(lambda: command_bus.send(Register(1, name)))
        )

    house.ecotone.register(start)
    with house.app.app_context():
        command_bus.send_with_routing("start", "Alice", metadata=A)
        command_bus.send_with_routing("start", "Bob", metadata=B)
    with ThreadPoolExecutor(1) as pool:
        # One thread for all of it, with nothing of the last task.
        for task in later:
            pool.submit(task).result()
        assert isinstance(pool.submit(house.names).exception(), RuntimeError)
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == [(1, "Bob")]


def test_in_the_same_thread_it_takes_part(plain: House) -> None:
    """An executor that runs at once, as tests use, joins the unit of work."""
    house = plain

    @command_handler("start")
    def start() -> None:
        house.write(1, "Alice")
        copy_current_message_context(lambda: command_bus.send(Register(2, "Anna")))()
        raise ValueError("bad")

    house.ecotone.register(start)
    with house.app.app_context():
        with pytest.raises(ValueError, match="bad"):
            command_bus.send_with_routing("start", metadata=A)
    assert house.stored("bind_a") == []


def test_a_thread_without_it_has_no_tenant(house: House) -> None:
    """With an app context of its own it is refused the database."""
    errors: list[t.Any] = []

    def work() -> None:
        with house.app.app_context():
            for use in (
                lambda: command_bus.send(Register(1, "astray")),
                lambda: query_bus.send_with_routing("names"),
                lambda: house.db.session.execute(sa.text("SELECT 1")),
            ):
                with pytest.raises(MissingTenantError) as raised:
                    use()
                errors.append(raised.value)

    @query_handler("start")
    def start() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    house.ecotone.register(start)
    with house.app.app_context():
        query_bus.send_with_routing("start", metadata=A)
    assert len(errors) == 3


@pytest.mark.parametrize("kind", ["query", "command"])
def test_a_copied_context_is_refused(plain: House, kind: str) -> None:
    """A session belongs to one thread; the error says what to do instead."""
    house = plain
    errors: list[BaseException] = []

    def work() -> None:
        try:
            house.names()
        except (TenancyError, UnitOfWorkError) as error:
            errors.append(error)

    def start() -> None:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()

    def ask() -> None:
        start()

    house.ecotone.register(command_handler("do")(start), query_handler("ask")(ask))
    with house.app.app_context():
        if kind == "query":
            query_bus.send_with_routing("ask", metadata=A)
        else:
            command_bus.send_with_routing("do", metadata=A)
    assert len(errors) == 1
    assert "belongs to one thread" in str(errors[0])


@pytest.mark.parametrize("kind", ["query", "command"])
def test_asyncio_may_run_it_in_a_thread(house: House, kind: str) -> None:
    """``asyncio.to_thread`` copies the context, from which nothing is taken."""

    def start() -> list[str]:
        names = copy_current_message_context(house.names)
        return asyncio.run(asyncio.to_thread(names))

    def ask() -> list[str]:
        return start()

    house.ecotone.register(command_handler("do")(start), query_handler("ask")(ask))
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        send = query_bus.send_with_routing
        found = (
            send("ask", metadata=A)
            if kind == "query"
            else command_bus.send_with_routing("do", metadata=A)
        )
    assert found == ["Alice"]


def test_it_needs_a_message(plain: House) -> None:
    """Outside of one there is nothing to hand over."""
    with plain.app.app_context():
        with pytest.raises(RuntimeError, match="while no message is handled"):
            copy_current_message_context(print)
