"""Sends messages along with the session of the caller."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..channels.protocols import distributed
from ..channels.protocols import Inserting
from ..channels.protocols import Post
from ..message import Message
from .apart import apart
from .session import EcotoneSession
from .staging import stage


class SessionOutbox:
    """Sends along with the session of the caller.

    It implements :class:`~flask_ecotone.channels.protocols.Outbox`.

    :param session: Returns the session.
    :param is_in_unit: Whether a unit of work is active.
    :param prepare: Called before a transaction begins: makes our tables.
    """

    def __init__(
        self,
        session: Callable[[], sa_orm.Session],
        is_in_unit: Callable[[], bool],
        prepare: Callable[[], None],
    ) -> None:
        self._session = session
        self._is_in_unit = is_in_unit
        self._prepare = prepare

    @property
    def is_open(self) -> bool:
        """Whether a transaction is going on."""
        return self._is_in_unit() or self._session().in_transaction()

    def put(self, posts: Sequence[Post]) -> None:
        """Stage messages; without a transaction they are sent, and committed, now."""
        posts = distributed(posts)
        if not posts:
            return
        if self.is_open:
            stage(self._session(), posts)
            return
        self._prepare()
        session = self._session()
        if len(posts) == 1 and _is_sent_apart(session, posts[0]):
            return
        stage(session, posts)
        try:
            EcotoneSession.commit_for_good(session)
        except BaseException:
            EcotoneSession.roll_back(session)
            raise

    def collecting(self, proceed: Callable[[Message], t.Any]) -> t.Any:
        """Return the call itself: the session collects."""
        return proceed


def _is_sent_apart(session: sa_orm.Session, post: Post) -> bool:
    """Send a message that is all there is to commit, without the session."""
    channel, envelope = post
    if not isinstance(channel, Inserting):
        return False
    engine = session.get_bind()
    if not isinstance(engine, sa.Engine):
        return False  # the session joins a transaction of somebody else
    apart(engine, lambda one: channel.insert(one, [envelope]), is_one_statement=True)
    return True
