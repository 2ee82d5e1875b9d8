"""A sub-package of a sub-package."""
