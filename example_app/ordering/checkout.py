"""The checkout form: read it, and say in plain words what is wrong with it."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import fields

from .messages import Customer

MISSING = {
    "name": "Tell us your name, so that the parcel finds you.",
    "email": "Tell us your e-mail address, so that we can write to you.",
    "street": "Tell us your street and house number.",
    "postcode": "Tell us your postcode.",
    "city": "Tell us your town.",
}


def read(form: Mapping[str, str]) -> Customer:
    """Read the form as it was filled in, with superfluous spaces removed."""
    return Customer(
        **{
            field.name: " ".join(form.get(field.name, "").split())
            for field in fields(Customer)
        }
    )


def problems(customer: Customer) -> dict[str, str]:
    """Say what to correct, field by field; empty means that all is well."""
    found = {}
    for name, value in asdict(customer).items():
        if not value:
            found[name] = MISSING[name]
        elif len(value) > 80 or not value.isprintable():
            found[name] = "Use at most 80 ordinary characters."
        elif name == "email" and not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", value):
            found[name] = "Write the whole address, like name@example.com."
    return found
