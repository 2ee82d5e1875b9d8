"""The messages of two tenants, without Flask and without Flask-SQLAlchemy.

A flow test runs handlers on the messaging core alone. Here a service of the
application's own chooses the database: a header tells it the tenant.

Run it with ``python -m example_app.quickstarts.tenants_without_flask``.
"""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated

from sqlalchemy import create_engine
from sqlalchemy import Engine
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import Session

from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import query_handler
from flask_ecotone.testing import flow_testing


class Base(DeclarativeBase):
    """The tables of a tenant."""


class Person(Base):
    """Somebody who was registered."""

    __tablename__ = "people"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class People:
    """Stores people, each tenant's in a database of its own."""

    def __init__(self, engines: dict[str, Engine]) -> None:
        self.engines = engines

    def add(self, tenant: str, person: Person) -> None:
        """Store somebody."""
        with Session(self.engines[tenant]) as session, session.begin():
            session.add(person)

    def names(self, tenant: str) -> list[str]:
        """List the names, by number."""
        with Session(self.engines[tenant]) as session:
            return list(session.scalars(select(Person.name).order_by(Person.number)))


@dataclass(frozen=True)
class RegisterPerson:
    """Welcome somebody."""

    number: int
    name: str


@dataclass(frozen=True)
class PersonWasRegistered:
    """Somebody is known now."""

    name: str


@dataclass(frozen=True)
class ListPeople:
    """Ask for the names of everybody."""


Tenant = Annotated[str, Header("tenant")]


@command_handler
def register(
    command: RegisterPerson, people: People, event_bus: EventBus, tenant: Tenant
) -> None:
    """Store the person where the header says."""
    people.add(tenant, Person(number=command.number, name=command.name))
    event_bus.publish(PersonWasRegistered(command.name))


@event_handler
def greet(event: PersonWasRegistered, tenant: Tenant) -> None:
    """Greet the person: the header came along with the event."""
    print(f"   Welcome to {tenant}, {event.name}")


@query_handler
def list_people(query: ListPeople, people: People, tenant: Tenant) -> list[str]:
    """List the people of the tenant."""
    return people.names(tenant)


def main(folder: str) -> None:
    """Run the example on two databases in *folder*."""
    engines = {
        tenant: create_engine(f"sqlite:///{folder}/{tenant}.db")
        for tenant in ("tenant_a", "tenant_b")
    }
    for engine in engines.values():
        Base.metadata.create_all(engine)

    flow = flow_testing(
        [register, greet, list_people], services={People: People(engines)}
    )
    tenant_a, tenant_b = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}

    print("1. Register Alice and Bob at tenant_a, Carol at tenant_b")
    flow.send_command(RegisterPerson(1, "Alice"), tenant_a)
    flow.send_command(RegisterPerson(2, "Bob"), tenant_a)
    flow.send_command(RegisterPerson(1, "Carol"), tenant_b)

    print("2. Each tenant lists its own people")
    assert flow.send_query(ListPeople(), tenant_a) == ["Alice", "Bob"]
    assert flow.send_query(ListPeople(), tenant_b) == ["Carol"]

    print("3. Every event carried its tenant")
    headers = flow.recorded_event_headers()
    assert [each["tenant"] for each in headers] == ["tenant_a", "tenant_a", "tenant_b"]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
