"""Interceptors, which are there at each boot."""

from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import MethodInvocation

from .journal import lines


@around(pointcut="shop.billing.*")
def audit(invocation: MethodInvocation) -> object:
    lines.append("audited")
    return invocation.proceed()


@before(pointcut="nothing.in.particular")
def check() -> None:
    lines.append("checked")
