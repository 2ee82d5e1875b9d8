"""Questions about many products at once: plain functions are handlers too."""

from sqlalchemy import select

from flask_ecotone import query_handler

from ..extensions import db
from .messages import FindProducts
from .messages import ListProducts
from .messages import ProductDetails
from .product import Product


@query_handler
def list_products(query: ListProducts) -> list[ProductDetails]:
    """List the catalogue by name, what is sold out last."""
    products = db.session.scalars(
        select(Product).order_by(Product.stock == 0, Product.name)
    )
    return [product.describe() for product in products]


@query_handler
def find_products(query: FindProducts) -> dict[str, ProductDetails]:
    """Find products by id."""
    products = db.session.scalars(
        select(Product).where(Product.product_id.in_(query.product_ids))
    )
    return {product.product_id: product.describe() for product in products}
