"""A package whose application is a module that is run with ``python -m``."""
