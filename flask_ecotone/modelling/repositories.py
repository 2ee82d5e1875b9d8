"""Which repository stores which aggregate."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import ConfigurationError
from ..errors import ModellingError
from ..reflection import location
from ..services import Services
from ..storage.protocols import ModelRepository
from ..storage.protocols import Repository


class Repositories:
    """The application's own repositories first, then those that come with the house.

    :param marked: Classes marked with :func:`repository`.
    :param models: Repositories that know how their classes are identified.
    """

    def __init__(
        self,
        marked: Iterable[type],
        models: Iterable[ModelRepository],
        services: Services,
    ) -> None:
        self._marked = list(marked)
        self._models = list(models)
        self._services = services
        self._chosen: dict[type, Repository] = {}
        for cls in self._marked:
            missing = [
                name
                for name in ("can_handle", "find_by", "save")
                if not callable(getattr(cls, name, None))
            ]
            if missing:
                raise ConfigurationError(
                    f"The repository {cls.__qualname__} ({location(cls)}) has no"
                    f" method {', '.join(missing)}. A repository has can_handle,"
                    " find_by and save."
                )

    def identifiers_of(self, cls: type) -> tuple[str, ...]:
        """Return how a class is identified, as far as its repository knows."""
        for repository in self._models:
            if repository.can_handle(cls):
                return repository.identifiers_of(cls)
        return ()

    def version_of(self, cls: type) -> str | None:
        """Return the attribute with the version that the repository itself counts."""
        for repository in self._models:
            if repository.can_handle(cls):
                return repository.version_of(cls)
        return None

    def of(self, cls: type) -> Repository:
        """Return the repository of an aggregate.

        :raises ModellingError: None can handle the class.
        """
        found = self._chosen.get(cls)
        if found is None:
            found = self._chosen[cls] = self._choose(cls)
        return found

    def _choose(self, cls: type) -> Repository:
        own: list[Repository] = [self._services.get(each) for each in self._marked]
        for repository in (*own, *self._models):
            if repository.can_handle(cls):
                return repository
        listed = ", ".join(type(r).__qualname__ for r in own) or "there is none"
        raise ModellingError(
            f"No repository can handle the aggregate {cls.__qualname__}"
            f" ({location(cls)}). Repositories of the application: {listed}. Mark a"
            " class with @repository whose can_handle returns True for it, or make"
            " the aggregate a db.Model."
        )
