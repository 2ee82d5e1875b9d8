"""Messages that are handled once: *Enterprise Integration Patterns*, Idempotent
Receiver.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import logging
import re
import typing as t
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from ..conversion import compile_expression
from ..conversion.expressions import EVALUATION_ARGUMENTS
from ..conversion.expressions import names_in
from ..decorators.deduplication import DeduplicatedMark
from ..decorators.deduplication import OnDuplicate
from ..errors import ConfigurationError
from ..errors import ConversionError
from ..errors import DuplicateMessageError
from ..errors import HeaderNotFoundError
from ..errors import MessagingError
from ..message import Message
from ..reflection import MISSING
from ..storage.protocols import Notes
from .evaluation import evaluation
from .evaluation import Resolution
from .writing import Writing

Flow = Callable[[Message], t.Any]

_HEADER = re.compile(r"[\w.:-]+")
_KEYS = (
    str,
    int,
    float,
    decimal.Decimal,
    uuid.UUID,
    datetime.date,
)


@dataclass(frozen=True, slots=True)
class IdempotentReceiver:
    """Lets one message of those with the same key pass.

    :param endpoint_id: Whose keys they are.
    :param key: Returns the key of a message.
    """

    endpoint_id: str
    key: Callable[[Message], str]
    on_duplicate: OnDuplicate
    notes: Notes
    writing: Writing
    logger: logging.Logger

    @property
    def has_replies(self) -> bool:
        """Whether repeated messages get the reply of the first one."""
        return self.on_duplicate == "return_cached"

    def around(self, flow: Flow, *, is_unit: bool, returns: t.Any = MISSING) -> Flow:
        """Return a flow that runs once for a key.

        :param is_unit: Whether it runs in a transaction, or commits by itself.
        :param returns: The type that it promises to return.
        """
        notes, key_of = self.notes, self.key

        def handle(message: Message) -> t.Any:
            key = key_of(message)
            if is_unit or notes.is_open:
                return notes.run(lambda: self._joined(flow, message, key, returns))
            return self._apart(flow, message, key, returns)

        return handle

    def _joined(self, flow: Flow, message: Message, key: str, returns: t.Any) -> t.Any:
        notes, endpoint_id = self.notes, self.endpoint_id
        if not notes.note(key, endpoint_id):
            return self._repeated(key, returns)
        try:
            result = flow(message)
            if self.has_replies:
                notes.keep_reply(key, endpoint_id, self._written(result))
        except BaseException as error:
            # Whoever sent it may swallow that, and commit.
            notes.forget(key, endpoint_id, error)
            raise
        return result

    def _apart(self, flow: Flow, message: Message, key: str, returns: t.Any) -> t.Any:
        # Nothing takes the note back if the process dies meanwhile, so it comes after.
        notes, endpoint_id = self.notes, self.endpoint_id
        if notes.has(key, endpoint_id):
            return self._repeated(key, returns)
        result = flow(message)
        reply = self._written(result) if self.has_replies else None

        def note() -> None:
            if not notes.note(key, endpoint_id):
                self.logger.warning(
                    "%s has handled two messages with the key %.80r, which came at the"
                    " same time. With @without_transaction a key is noted only after"
                    " its message was handled. Remove that marker, or let the handler"
                    " itself find out what it has done.",
                    endpoint_id,
                    key,
                )
            elif reply is not None:
                notes.keep_reply(key, endpoint_id, reply)

        notes.run(note)
        return result

    def _repeated(self, key: str, returns: t.Any) -> t.Any:
        if self.on_duplicate == "raise":
            raise DuplicateMessageError(self.endpoint_id, key)
        if not self.has_replies:
            self.logger.info(
                "%s has handled a message with the key %.80r already: this one is"
                " skipped.",
                self.endpoint_id,
                key,
            )
            return None
        reply = self.notes.reply(key, self.endpoint_id)
        if reply is None:
            raise DuplicateMessageError(
                self.endpoint_id,
                key,
                " What it returned isn't known: it goes on and sends the message to"
                " itself, or replies weren't kept then.",
            )
        return self.writing.read_value(reply, returns)

    def _written(self, result: t.Any) -> str:
        try:
            return self.writing.write_value(result)
        except ConversionError as error:
            raise ConversionError(
                f"What {self.endpoint_id} returned can't be kept for repeated messages:"
                f" {error} Or give @deduplicated another on_duplicate."
            ) from error


def key_of(
    said: DeduplicatedMark, where: str, resolution: Resolution
) -> Callable[[Message], str]:
    """Return what computes the key of a message.

    :param where: Whose key it is, for errors.
    :raises ConfigurationError: What is said of the key can't be understood.
    """
    key, where = said.key, f"{where}, @deduplicated"
    if key is None:
        return lambda message: message.headers.message_id
    if isinstance(key, str) and not _is_expression(key, where):

        def header(message: Message) -> str:
            value = message.header(key)
            if value is None:
                raise HeaderNotFoundError(
                    f"{where}: the key is the header {key!r}, which the message"
                    " doesn't carry. Send it as metadata, or compute the key with an"
                    " expression."
                )
            return _text(value, where, resolution)

        return header
    expression = compile_expression(key, where)
    return lambda message: _text(
        expression(evaluation(message, resolution)), where, resolution
    )


def _is_expression(key: str, where: str) -> bool:
    names = names_in(key)
    if names and names.issubset(EVALUATION_ARGUMENTS):
        return True
    if _HEADER.fullmatch(key):
        return False
    raise ConfigurationError(
        f"{where}: the key {key!r} is neither the name of a header nor an expression,"
        f" which reads {', '.join(EVALUATION_ARGUMENTS)}."
    )


def _text(value: t.Any, where: str, resolution: Resolution) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    value = resolution.conversion.to_scalar(value)
    if isinstance(value, _KEYS) and not isinstance(value, bool) and value != "":
        return str(value)
    raise MessagingError(
        f"{where}: the key is {value!r:.80}. It is text, a number, a UUID or a date,"
        " that tells one message from others."
    )
