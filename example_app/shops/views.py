"""The page in front of both shops."""

from flask import Blueprint
from flask import render_template

from flask_ecotone import query_bus

from ..reporting.sales import GetSales
from .database import DatabaseDetails
from .database import DescribeDatabase
from .shop import SHOPS

bp = Blueprint("shops", __name__)


@bp.app_template_global()
def database() -> DatabaseDetails:
    """Name the database behind the page: ``{{ database() }}``."""
    details: DatabaseDetails = query_bus.send(DescribeDatabase())
    return details


@bp.get("/")
def index() -> str:
    """Show both shops: here each message says itself which one it is for."""
    windows = []
    for shop in SHOPS.values():
        tenant = {"tenant": shop.key}
        windows.append(
            (
                shop,
                query_bus.send(GetSales(), tenant),
                query_bus.send(DescribeDatabase(), tenant),
            )
        )
    return render_template("shops/index.html", windows=windows)
