"""Modules with nothing but handlers are imported when one of them is needed."""

from __future__ import annotations

from .conftest import Site


def test_one_command_imports_its_module_alone(site: Site) -> None:
    """Of many modules a command imports the one with its handler."""
    site.write_handlers("first", "second", "third")
    site.boot()

    found = site.boot(
        """
        state.system
        result = [modules()]
        result.append(state.command_bus.send_with_routing("second"))
        result.append(modules())
        """
    )

    assert found == [[], "second", ["small.second"]]


def test_names_and_classes_of_other_kinds_import_nothing(site: Site) -> None:
    """A command doesn't import handlers of events and queries called the same."""
    site.write_handlers("ping")
    site.write(
        "others.py",
        """
        from flask_ecotone import event_handler, query_handler

        @event_handler("ping")
        def pinged() -> None: ...

        @query_handler("ping")
        def ask() -> None: ...
        """,
    )
    site.boot()

    found = site.boot(
        """
        state.command_bus.send_with_routing("ping")
        result = [modules()]
        state.event_bus.publish_with_routing("ping")
        result.append(modules())
        """
    )

    assert found == [["small.ping"], ["small.others", "small.ping"]]


def test_event_name_of_an_unscanned_class_is_heard(site: Site) -> None:
    """An event is heard by the name of its class, wherever the class is defined."""
    site.write(
        "../events.py",
        """
        from dataclasses import dataclass
        from flask_ecotone import named_event

        @named_event("order.placed")
        @dataclass
        class Placed:
            number: int
        """,
    )
    site.write(
        "listening.py",
        """
        from events import Placed
        from flask_ecotone import event_handler
        heard = []

        @event_handler
        def hear(event: Placed) -> None:
            heard.append(event.number)
        """,
    )
    code = """
        state.event_bus.publish_with_routing("order.placed", {"number": 5})
        from small.listening import heard
        result = heard
        """
    at_boot = "state.system; result = modules()"

    assert [site.boot(code), site.boot(at_boot), site.boot(code)] == [[5], [], [5]]


def test_threads_import_each_module_once(site: Site) -> None:
    """Threads that race for the first use of several modules import each once."""
    names = [f"module_{number}" for number in range(8)]
    for name in names:
        site.write(
            f"{name}.py",
            f"import builtins\n"
            f"builtins.imported = [*getattr(builtins, 'imported', []), {name!r}]\n"
            f"for _ in range(20000): pass\n"
            f"from flask_ecotone import command_handler, event_handler\n"
            f"@command_handler({name!r})\ndef handle() -> str: return {name!r}\n"
            f"@event_handler('all')\ndef hear() -> None:\n"
            f"    builtins.heard.append({name!r})\n",
        )
    site.boot()

    found = site.boot(
        """
        import builtins, threading
        builtins.heard = []
        state.system
        sys.setswitchinterval(1e-5)
        names = [f"module_{n}" for n in range(8)]
        barrier = threading.Barrier(16)
        answers = []

        def work(number):
            with app.app_context():
                barrier.wait()
                if number % 4 == 3:
                    ecotone.event_bus.publish_with_routing("all")
                turned = names[number % 8:] + names[:number % 8]
                send = ecotone.command_bus.send_with_routing
                answers.append([send(name) for name in turned] == turned)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        result = [answers, sorted(builtins.imported)]
        result += [len(builtins.heard), len(state.system.endpoints)]
        """
    )

    assert found == [[True] * 16, names, 8 * 4, 16]


def test_module_that_somebody_imports_meanwhile_is_awaited(site: Site) -> None:
    """A module that another thread is importing is used when it is complete."""
    site.write(
        "slow.py",
        """
        import builtins
        if hasattr(builtins, "entered"):
            builtins.entered.set()
            builtins.leave.wait(5)
        from flask_ecotone import command_handler

        @command_handler("slow")
        def slow() -> str:
            return "complete"
        """,
    )
    site.boot()

    found = site.boot(
        """
        import builtins, importlib, threading
        state.system
        builtins.entered, builtins.leave = threading.Event(), threading.Event()
        other = threading.Thread(target=importlib.import_module, args=("small.slow",))
        other.start()
        builtins.entered.wait(5)
        releasing = threading.Timer(0.05, builtins.leave.set)
        releasing.start()
        result = ecotone.command_bus.send_with_routing("slow")
        other.join()
        releasing.join()
        """
    )

    assert found == "complete"


def test_deferred_module_uses_others(site: Site) -> None:
    """A module that waited may import another one, and its handlers use a bus."""
    site.write_handlers("last")
    site.write(
        "middle.py",
        """
        from flask_ecotone import command_bus, command_handler
        from . import last

        @command_handler("middle")
        def middle() -> str:
            return "middle, " + command_bus.send_with_routing("last")
        """,
    )
    site.write(
        "first.py",
        """
        from flask_ecotone import command_bus, command_handler

        @command_handler("first")
        def first() -> str:
            return "first, " + command_bus.send_with_routing("middle")
        """,
    )
    code = 'result = state.command_bus.send_with_routing("first")'

    assert site.boot(code) == "first, middle, last"
    assert site.boot(code) == "first, middle, last"


def test_bus_at_import_time_is_refused(site: Site) -> None:
    """A module that began to use a bus while it is imported gets a clear error."""
    site.write_handlers("early", "other")
    site.boot()
    site.write(
        "early.py",
        """
        from small import ecotone
        ecotone.command_bus.send_with_routing("other")
        """,
    )

    first, second = site.boot(
        """
        call = lambda: ecotone.command_bus.send_with_routing("early")
        result = [failing(call), failing(call)]
        """
    )

    assert "not at import time" in first
    assert second == first


def test_failing_import_is_repeated_and_leaves_nothing(site: Site) -> None:
    """A module that can't be imported fails alike at each use; others work."""
    site.write_handlers("sound", "broken")
    site.boot()
    site.write(
        "broken.py",
        """
        import builtins
        builtins.count = getattr(builtins, "count", 0) + 1
        from flask_ecotone import command_handler, query_handler

        @command_handler("broken")
        def broken() -> None: ...

        @query_handler("half")
        def half() -> None: ...

        raise LookupError(f"import number {builtins.count}")
        """,
    )

    found = site.boot(
        """
        send = ecotone.command_bus.send_with_routing
        result = [failing(lambda: send("broken")) for _ in range(3)]
        result.append(send("sound"))
        result.append(failing(lambda: ecotone.query_bus.send_with_routing("half")))
        """
    )

    assert found[0].startswith("ConfigurationError: Ecotone's manifest references")
    assert "LookupError: import number 1" in found[0]
    assert found[1] == found[2] == found[0]
    assert found[3] == "sound"
    assert found[4].startswith("NoHandlerError")


def test_module_that_cannot_be_connected_leaves_no_routes(site: Site) -> None:
    """If one of a module's handlers clashes with another, none of them is connected."""
    site.write("first.py", "")
    site.write_handlers("eager", "clash")
    site.write(
        "eager.py",
        """
        from flask_ecotone import before, command_handler

        @before(pointcut="nothing")
        def watch() -> None: ...

        @command_handler("eager")
        def handle() -> str:
            return "eager"
        """,
    )
    site.write(
        "clash.py",
        """
        from flask_ecotone import command_handler, query_handler

        @command_handler("clash", endpoint_id="one")
        def one() -> None: ...

        @query_handler("clash.query", endpoint_id="two")
        def two() -> None: ...

        @query_handler("other", endpoint_id="three")
        def three() -> None: ...
        """,
    )
    site.boot()
    clash = site.folder / "small" / "clash.py"
    clash.write_text(clash.read_text().replace('"other"', '"clash.query"'))

    found = site.boot(
        """
        send = ecotone.command_bus.send_with_routing
        result = [failing(lambda: send("clash")) for _ in range(2)]
        result.append(send("eager"))
        result.append(len(state.system._endpoints))
        """
    )

    assert "'clash.query' has 2 handlers" in found[0]
    assert found[1] == found[0]
    assert found[2:] == ["eager", 1]


def test_unknown_messages_are_explained(site: Site) -> None:
    """Suggestions know the handlers that wait, and say where they are known from."""
    site.write_handlers("order_milk")
    site.write(
        "typed.py",
        """
        from flask_ecotone import command_handler
        from small import PlaceOrder

        @command_handler
        def place(command: PlaceOrder) -> None: ...
        """,
    )
    code = "class PlaceOrder: ...\nclass PlaceOrders: ...\n"
    init = site.folder / "small" / "__init__.py"
    init.write_text(init.read_text() + code)
    ask = """
        from small import PlaceOrders
        result = [failing(lambda: ecotone.command_bus.send_with_routing("order_mlik"))]
        result.append(failing(lambda: ecotone.command_bus.send(PlaceOrders())))
        result.append(failing(lambda: ecotone.command_bus.send({})))
        result.append(failing(lambda: state.system.channel("order_mlik", "It")))
        """

    cold, warm = site.boot(ask), site.boot(ask)

    hint = " Handlers are known from Ecotone's manifest. If this one is newer, clear it"
    hint += " with 'flask ecotone cache clear' and boot again."
    assert "Did you mean 'order_milk'?" in cold[0]
    assert "Did you mean 'PlaceOrder'?" in cold[1]
    assert "with one of: order_milk." in cold[2]
    assert "Did you mean 'order_milk'?" in cold[3]
    assert warm == [cold[0] + hint, cold[1] + hint, cold[2], cold[3] + hint]
