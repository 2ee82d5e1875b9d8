"""Tenants: a header of the message chooses the database."""

from .configuration import MultiTenantConfiguration as MultiTenantConfiguration
from .configuration import (
    SQLAlchemyConnectionReference as SQLAlchemyConnectionReference,
)
from .connections import ConnectionFactory as ConnectionFactory
from .tenancy import Tenancy as Tenancy
from .tenants import Tenants as Tenants
