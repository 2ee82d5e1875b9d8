"""The pages of ordering: cart, checkout, order, orders."""

from flask import Blueprint
from flask import flash
from flask import redirect
from flask import render_template
from flask import request
from flask import url_for
from flask.typing import ResponseReturnValue

from flask_ecotone import command_bus
from flask_ecotone import query_bus

from ..catalogue.messages import GetProduct
from ..catalogue.messages import OutOfStock
from ..pages import show_not_found
from . import cart
from . import checkout
from .messages import GetOrder
from .messages import ListOrders
from .messages import NotYourOrder
from .messages import OrderRefused
from .messages import PlaceOrder

bp = Blueprint("ordering", __name__)
bp.register_error_handler(NotYourOrder, show_not_found)
bp.app_template_global("cart_count")(cart.count)


@bp.get("/cart")
def show_cart() -> str:
    """Show what the shopper has picked."""
    return render_template("ordering/cart.html", cart=cart.load())


@bp.post("/cart")
def add_to_cart() -> ResponseReturnValue:
    """Put some more of a product into the cart."""
    product = query_bus.send(GetProduct(request.form["product_id"]))
    before = cart.quantities().get(product.product_id, 0)
    wanted = before + max(1, request.form.get("quantity", 1, type=int))
    if cart.put(product, wanted) < wanted:
        flash(str(OutOfStock(product.name, product.stock)))
    else:
        flash(f"{product.name} is in your cart.")
    return redirect(url_for(".show_cart"), 303)


@bp.post("/cart/<product_id>")
def change_cart(product_id: str) -> ResponseReturnValue:
    """Set the quantity of a product in the cart; 0 removes it."""
    product = query_bus.send(GetProduct(product_id))
    if not cart.put(product, request.form.get("quantity", 1, type=int)):
        flash(f"{product.name} was taken out of your cart.")
    return redirect(url_for(".show_cart"), 303)


@bp.get("/checkout")
def show_checkout() -> ResponseReturnValue:
    """Ask where the parcel goes."""
    current = cart.load()
    if not current.lines:
        return redirect(url_for(".show_cart"), 303)
    return render_template("ordering/checkout.html", cart=current, form={}, problems={})


@bp.post("/checkout")
def place_order() -> ResponseReturnValue:
    """Place the order, or show the form again with what went wrong.

    The form carries the id of the cart, which becomes the id of the order. A
    form that is sent again, on purpose or not, leads to the order it made.
    """
    current = cart.load()
    order_id = request.form["order_id"]
    if order_id != current.cart_id:
        return redirect(url_for(".show_order", order_id=order_id), 303)

    customer = checkout.read(request.form)
    problems = checkout.problems(customer)
    status = 422
    if not problems:
        total = request.form.get("total", 0, type=int)
        try:
            command_bus.send(PlaceOrder(order_id, customer, current.items, total))
        except (OutOfStock, OrderRefused) as refusal:
            problems = {"order": str(refusal)}
            status = 409
            current = cart.load()
        else:
            cart.clear()
            return redirect(url_for(".show_order", order_id=order_id), 303)

    page = render_template(
        "ordering/checkout.html", cart=current, form=customer, problems=problems
    )
    return page, status


@bp.get("/orders")
def show_orders() -> str:
    """List the shopper's orders."""
    return render_template("ordering/orders.html", orders=query_bus.send(ListOrders()))


@bp.get("/orders/<order_id>")
def show_order(order_id: str) -> str:
    """Show one order and what has happened to it."""
    order = query_bus.send(GetOrder(order_id))
    return render_template("ordering/order.html", order=order)


@bp.post("/orders/<order_id>/cancel")
def cancel_order(order_id: str) -> ResponseReturnValue:
    """Call the order off: addressed by routing key and identifier."""
    command_bus.send_with_routing("order.cancel", metadata={"aggregate.id": order_id})
    flash("Your order is cancelled. Everything is back on the shelf.")
    return redirect(url_for(".show_order", order_id=order_id), 303)
