"""Run in a process of its own: greenlets send messages with headers of their own."""

import gevent.monkey

gevent.monkey.patch_all()

import gevent  # noqa: E402
from flask import Flask  # noqa: E402

from flask_ecotone import command_bus  # noqa: E402
from flask_ecotone import command_handler  # noqa: E402
from flask_ecotone import Ecotone  # noqa: E402
from flask_ecotone import event_bus  # noqa: E402
from flask_ecotone import event_handler  # noqa: E402
from flask_ecotone import Message  # noqa: E402
from flask_ecotone import query_bus  # noqa: E402
from flask_ecotone import query_handler  # noqa: E402

seen: dict[int, list[tuple[int, str]]] = {}


class Happened:
    """An event."""


@command_handler("work")
def work(number: int, message: Message) -> tuple[int, str]:
    """Give others a turn between every two steps."""
    gevent.sleep(0)
    event_bus.publish(Happened())
    gevent.sleep(0)
    user, correlation = query_bus.send_with_routing("who")
    gevent.sleep(0)
    assert correlation == message.headers.correlation_id
    return user, correlation


@event_handler
def listen(event: Happened, message: Message) -> None:
    """Note whose event it was."""
    gevent.sleep(0)
    user = message.headers["user"]
    seen.setdefault(user, []).append((user, message.headers.correlation_id))


@query_handler("who")
def who(message: Message) -> tuple[int, str]:
    """Return whose query it is."""
    gevent.sleep(0)
    return message.headers["user"], message.headers.correlation_id


def main() -> None:
    """Send from many greenlets and print how many were right."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(work, listen, who)
    ecotone.init_app(app)

    def send(user: int) -> int:
        right = 0
        for number in range(20):
            with app.app_context():
                flow = f"{user}-{number}"
                metadata = {"user": user, "correlationId": flow}
                result = command_bus.send_with_routing("work", 1, metadata=metadata)
                right += result == (user, flow)
        return right

    greenlets = [gevent.spawn(send, user) for user in range(32)]
    gevent.joinall(greenlets, raise_error=True)
    right = sum(greenlet.value for greenlet in greenlets)
    events = sum(
        flows == [(user, f"{user}-{n}") for n in range(20)]
        for user, flows in seen.items()
    )
    print(f"{right} {events}")


if __name__ == "__main__":
    main()
