"""The pages of the catalogue."""

from flask import Blueprint
from flask import render_template

from flask_ecotone import query_bus

from .messages import GetProduct
from .messages import ListProducts

bp = Blueprint("catalogue", __name__)


@bp.get("/")
def index() -> str:
    """Show everything there is."""
    products = query_bus.send(ListProducts())
    return render_template("catalogue/index.html", products=products)


@bp.get("/products/<product_id>")
def product(product_id: str) -> str:
    """Show one product; an unknown id becomes a 404."""
    product = query_bus.send(GetProduct(product_id))
    return render_template("catalogue/product.html", product=product)
