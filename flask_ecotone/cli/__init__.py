"""``flask ecotone``."""

from .group import ecotone_cli as ecotone_cli
