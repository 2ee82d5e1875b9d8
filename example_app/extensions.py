"""The extensions, created once and bound to an application in ``create_app``."""

from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration

from .shops.shop import SHOPS

#: The channel of mails: rows in the shop's own database, stored with the order.
NOTIFICATIONS = "notifications"

db = SQLAlchemy()
ecotone = Ecotone(
    packages=[
        "example_app.catalogue",
        "example_app.mailing",
        "example_app.operations",
        "example_app.ordering",
        "example_app.reporting",
        "example_app.shops",
    ],
    channels=[DatabaseChannel(NOTIFICATIONS)],
    extensions=[MultiTenantConfiguration("tenant", {key: key for key in SHOPS})],
)
