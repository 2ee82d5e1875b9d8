"""What an interceptor around a call gets."""

from __future__ import annotations

import typing as t
from collections.abc import Callable


class MethodInvocation:
    """The call that an ``@around`` interceptor is around of.

    :param proceed: What is inside: the next interceptor, or the call.
    """

    __slots__ = ("_arguments", "_proceed", "function", "target")

    #: The handler's function, or the gateway's method.
    function: t.Any
    #: The object whose method is called; ``None`` for functions, the class for factory
    #: methods.
    target: t.Any

    def __init__(
        self,
        proceed: Callable[[], t.Any],
        function: t.Any,
        target: t.Any,
        arguments: Callable[[], tuple[t.Any, ...]],
    ) -> None:
        self._proceed = proceed
        self._arguments = arguments
        self.function = function
        self.target = target

    def proceed(self) -> t.Any:
        """Go on with the call and return its result. It may be done again."""
        return self._proceed()

    @property
    def name(self) -> str:
        """The name of the function, with its class."""
        return t.cast(str, self.function.__qualname__)

    @property
    def arguments(self) -> tuple[t.Any, ...]:
        """The arguments of the call, made from the message."""
        return self._arguments()
