"""Which failures are tried again, and when."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .errors import ConfigurationError
from .errors import UnitOfWorkError

#: One class of exceptions, or several.
Exceptions = type[BaseException] | tuple[type[BaseException], ...]

_MAX_DELAY: t.Final = 365 * 86_400_000


def exceptions_in(given: t.Any, where: str) -> tuple[type[BaseException], ...]:
    """Return classes of exceptions as a tuple.

    :param where: What they are given for.
    :raises ConfigurationError: One is no class of exceptions.
    """
    listed = given if isinstance(given, tuple) else (given,)
    for each in listed:
        if not isinstance(each, type) or not issubclass(each, BaseException):
            raise ConfigurationError(
                f"{where} is {each!r:.80}. Give a class of exceptions or a tuple of"
                " them, for example (ConnectionError, TimeoutError)."
            )
    return listed


def is_repeated(
    error: BaseException, exceptions: Exceptions, except_for: Exceptions
) -> bool:
    """Whether an error is one of those that are tried again, and not excepted."""
    return is_one_of(error, exceptions) and not is_one_of(error, except_for)


def is_one_of(error: BaseException, kinds: Exceptions) -> bool:
    """Whether an error, or what was swallowed and made the unit of work fail, is one.

    What a handler swallowed and the unit of work found out counts as if it had passed:
    nothing was stored either way.
    """
    if isinstance(error, kinds):
        return True
    return isinstance(error, UnitOfWorkError) and isinstance(error.__cause__, kinds)


@dataclass(frozen=True, slots=True)
class RetryTemplate:
    """When something that failed is tried again.

    :param initial: Milliseconds before the first retry.
    :param multiplier: How many times longer each further one waits.
    :param max_delay: The longest wait in milliseconds; a cap, not an end.
    :param max_attempts: How many retries there are; ``None`` for no end.
    :param jitter: The part of a wait, 0 to 1, that is left to chance, so that what
        failed together doesn't come back together.
    :param exceptions: The exceptions of handlers that are worth trying again, all
        unless given.
    :param except_for: Those among them that never are.
    """

    initial: int = 1000
    multiplier: float = 1.0
    max_delay: int | None = None
    max_attempts: int | None = 3
    jitter: float = 0.0
    exceptions: Exceptions = BaseException
    except_for: Exceptions = ()

    def __post_init__(self) -> None:
        if self.initial < 0 or self.multiplier < 1 or not 0 <= self.jitter <= 1:
            raise ConfigurationError(
                f"A retry has initial={self.initial}, multiplier={self.multiplier},"
                f" jitter={self.jitter}. It waits 0 ms or more, 1 time or more longer"
                " each time, and leaves a part of 0 to 1 of it to chance."
            )
        if self.max_attempts is not None and self.max_attempts < 0:
            raise ConfigurationError(
                f"A retry has max_attempts={self.max_attempts}. Give a number, or None"
                " for no end."
            )
        for name in ("exceptions", "except_for"):
            listed = exceptions_in(getattr(self, name), f"{name} of a retry")
            object.__setattr__(self, name, listed)

    def repeats(self, error: BaseException) -> bool:
        """Whether an exception of a handler is tried again."""
        return is_repeated(error, self.exceptions, self.except_for)

    def delay(self, retry: int, chance: float = 0.0) -> int | None:
        """Return the milliseconds to wait; ``None`` if there is no such retry.

        :param retry: The number of the retry, from 1.
        :param chance: A random number from 0 to 1.
        """
        if self.max_attempts is not None and retry > self.max_attempts:
            return None
        longest = _MAX_DELAY if self.max_delay is None else self.max_delay
        try:
            wait = min(self.initial * self.multiplier ** (retry - 1), longest)
        except OverflowError:
            wait = longest
        return int(wait * (1 - self.jitter * chance))
