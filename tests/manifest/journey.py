"""Uses everything in the shop, and says what happened."""

from __future__ import annotations

import json
import sys
import typing as t

from shop import Clock
from shop import create_app
from shop import db
from shop import ecotone

app = create_app()
state = app.extensions["ecotone"]
found: dict[str, t.Any] = {}


def modules() -> list[str]:
    return sorted(name for name in sys.modules if name.startswith("shop."))


def keep(name: str, call: t.Callable[[], t.Any]) -> None:
    lines.clear()
    try:
        answer = call()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    found[name] = [answer, *lines]


with app.app_context():
    send = ecotone.command_bus.send_with_routing
    ask = ecotone.query_bus.send_with_routing
    found["modules at boot"] = modules()
    found["services at boot"] = Clock.made
    from shop.interfaces import Steps
    from shop.journal import lines
    from shop.messages import Order
    from shop.messages import StockEmptied
    from shop.messages import UrgentOrder

    db.drop_all()
    db.create_all()
    keep("registered", lambda: send("registered"))
    keep("business interface", lambda: ecotone.get(Steps).begin(1))
    keep("command", lambda: ecotone.command_bus.send(Order("milk")))
    keep("subclass", lambda: ecotone.command_bus.send(UrgentOrder("tea")))
    keep("query", lambda: ask("order.count"))
    keep("required interceptor", lambda: ask("bill.count"))
    keep("event by class", lambda: ecotone.event_bus.publish(StockEmptied("tea")))
    publish = ecotone.event_bus.publish_with_routing
    keep("event by name", lambda: publish("stock.emptied", {"product": "tea"}))
    keep("event by glob", lambda: publish("stock.counted"))
    keep("instant retry", lambda: send("retried"))
    keep("without transaction", lambda: send("unguarded"))
    keep("environment", lambda: send("environment"))
    keep("mixin", lambda: send("greet"))
    keep("new aggregate", lambda: send("basket.take", "Ada"))
    owner = {"aggregate.id": 1}
    keep("aggregate", lambda: ask("basket.owner", metadata=owner))
    found["services made once"] = Clock.made
    found["endpoints"] = [e.describe() for e in state.system.endpoints]
    found["configuration"] = state.config_hash
    found["modules at the end"] = modules()
    # Since Python 3.13 SQLite complains about a connection that is open at the exit,
    # also if it rests in a pool.
    db.session.remove()
    db.engine.dispose()

print(json.dumps(found))
