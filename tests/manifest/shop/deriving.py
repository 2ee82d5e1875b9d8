"""Handlers that come from a base in another module."""

from .converting import Greeting


class Welcome(Greeting):
    word = "Welcome"
