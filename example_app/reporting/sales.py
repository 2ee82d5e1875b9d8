"""How the shop is doing, asked in SQL."""

from dataclasses import dataclass
from typing import Protocol

from flask_ecotone import query_handler
from flask_ecotone import sql_query


@dataclass(frozen=True)
class GetSales:
    """Ask for the sales of all products."""


@dataclass(frozen=True)
class ProductSales:
    """What became of one product. Money is in cents."""

    product_id: str
    name: str
    sold: int
    revenue: int
    stock: int


@dataclass(frozen=True)
class Sales:
    """The answer: the products that earned most come first."""

    products: tuple[ProductSales, ...]

    @property
    def sold(self) -> int:
        """How many were sold of all products."""
        return sum(product.sold for product in self.products)

    @property
    def revenue(self) -> int:
        """What all products earned."""
        return sum(product.revenue for product in self.products)

    @property
    def stock(self) -> int:
        """How many are left of all products."""
        return sum(product.stock for product in self.products)


class Ledger(Protocol):
    """SQL as methods: there is no implementation to write."""

    @sql_query(
        """
        SELECT product.product_id, product.name, product.stock,
               COALESCE(SUM(bought.quantity), 0) AS sold,
               COALESCE(SUM(bought.quantity * bought.unit_price), 0) AS revenue
        FROM product
        LEFT JOIN (
            SELECT order_lines.* FROM order_lines
            JOIN orders ON orders.order_id = order_lines.order_id
            WHERE orders.status <> :ignored
        ) AS bought ON bought.product_id = product.product_id
        GROUP BY product.product_id, product.name, product.stock
        ORDER BY revenue DESC, product.name
        """
    )
    def sales(self, ignored: str) -> list[ProductSales]:
        """Sum up the orders of each product, but those with an *ignored* status."""
        ...


@query_handler
def get_sales(query: GetSales, ledger: Ledger) -> Sales:
    """Count what was sold: a cancelled order is none."""
    return Sales(tuple(ledger.sales(ignored="cancelled")))
