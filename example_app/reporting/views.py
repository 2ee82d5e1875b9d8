"""The page with the figures."""

from flask import Blueprint
from flask import render_template

from flask_ecotone import query_bus

from .sales import GetSales

bp = Blueprint("reporting", __name__)


@bp.get("/sales")
def show_sales() -> str:
    """Show what was sold, and what is left."""
    return render_template("reporting/sales.html", sales=query_bus.send(GetSales()))
