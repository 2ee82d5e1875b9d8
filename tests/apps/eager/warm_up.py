"""Uses a bus at import time."""

from flask_ecotone import query_bus

PRICES = query_bus.send_with_routing("prices")
