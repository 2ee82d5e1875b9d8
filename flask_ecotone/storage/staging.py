"""Messages that are sent along with the transaction of a session.

They are staged on the session. Channels in the database get theirs just before the
commit, in the transaction; other channels get theirs once it is committed. A rollback
gives them up, that of a savepoint those that were sent inside of it. What can fail of
sending to other channels does so before the commit, where it prevents that.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Sequence

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..channels.protocols import by_channel
from ..channels.protocols import Capability
from ..channels.protocols import Post
from .batches import batch_of
from .departure import Departure

_log = logging.getLogger("flask_ecotone.outbox")

#: The staged posts of a session: a list for the transaction and one for each savepoint.
_STAGED: t.Final = "ecotone.staged"
#: What leaves once the commit that a session has begun is done.
_LEAVING: t.Final = "ecotone.leaving"


def stage(session: sa_orm.Session, posts: Sequence[Post]) -> None:
    """Send messages when the transaction of a session is committed."""
    if getattr(session, "_flushing", False):
        # What a flush sends may come too late to be staged: it is part of a commit.
        posts = _send_transactional(posts)
        if not posts:
            return
    if not session.in_transaction():
        # Past what the session itself says about it.
        sa_orm.Session.begin(session)
    session._has_written = True  # type: ignore[attr-defined]
    levels = session.info.setdefault(_STAGED, [[]])
    levels[-1].extend(posts)


def watch(session_class: type[sa_orm.Session]) -> None:
    """Send what is staged on sessions of a class; called once for a class."""
    sa.event.listen(session_class, "before_commit", _before_commit)
    sa.event.listen(session_class, "after_commit", _after_commit)
    sa.event.listen(session_class, "after_rollback", _after_rollback)
    sa.event.listen(session_class, "after_transaction_end", _after_end)


def before_savepoint(session: sa_orm.Session) -> None:
    """Send what is staged so far, so that a savepoint doesn't take it along."""
    levels = session.info.get(_STAGED)
    if levels is None:
        levels = session.info[_STAGED] = [[]]
    levels[-1][:] = _send_transactional(levels[-1])
    levels.append([])


def _before_commit(session: sa_orm.Session) -> None:
    levels = session.info.get(_STAGED)
    if levels is None:
        return
    # What is flushed may send messages, too.
    session.flush()
    posts = _send_transactional(levels[-1])
    if session.in_nested_transaction() and len(levels) > 1:
        levels[-2].extend(posts)
        posts = []
    levels[-1][:] = posts
    if posts and not session.in_nested_transaction() and _is_last(session):
        session.info[_LEAVING] = Departure(_unstaged(levels))


def _after_commit(session: sa_orm.Session) -> None:
    levels = session.info.get(_STAGED)
    if levels is None or session.in_nested_transaction():
        return
    leaving = session.info.pop(_LEAVING, None)
    if leaving is not None:
        leaving.send()
    posts = _unstaged(session.info.pop(_STAGED))
    if not posts:
        return
    unit = session._unit()  # type: ignore[attr-defined]
    batch = batch_of(session._db)  # type: ignore[attr-defined]
    if unit is not None and unit.session is not session:
        # A guest has only handed over what it did.
        stage(unit.session, posts)
    elif batch is not None:
        batch.send_later(posts)
    else:
        # What the commit itself has flushed.
        Departure(posts).send()


def _is_last(session: sa_orm.Session) -> bool:
    """Whether nobody can give up any more what a session commits."""
    unit = session._unit()  # type: ignore[attr-defined]
    is_guest = unit is not None and unit.session is not session
    return not is_guest and batch_of(session._db) is None  # type: ignore[attr-defined]


def _after_rollback(session: sa_orm.Session) -> None:
    # Before the transaction ends, where what is left counts as forgotten.
    levels = session.info.get(_STAGED)
    if levels is not None:
        levels[-1].clear()


def _after_end(session: sa_orm.Session, transaction: sa_orm.SessionTransaction) -> None:
    levels = session.info.get(_STAGED)
    if levels is None:
        return
    if transaction.nested:
        if len(levels) > 1:
            _report(levels.pop())
    elif transaction.parent is None:
        leaving = session.info.pop(_LEAVING, None)
        if leaving is not None:
            leaving.give_up()
        for level in session.info.pop(_STAGED):
            _report(level)


def _unstaged(levels: list[list[Post]]) -> list[Post]:
    posts = [post for level in levels for post in level]
    for level in levels:
        level.clear()
    return posts


def _report(lost: list[Post]) -> None:
    if lost:
        names = sorted({channel.name for channel, _ in lost})
        _log.warning(
            "%d messages for %s were not sent, as the session was closed without a"
            " commit. Call db.session.commit() in the view, or send a command.",
            len(lost),
            ", ".join(names),
        )


def _send_transactional(posts: Sequence[Post]) -> list[Post]:
    """Send what goes into the database, and return the rest."""
    left: list[Post] = []
    for channel, envelopes in by_channel(posts):
        if Capability.TRANSACTIONAL in channel.capabilities:
            channel.send(envelopes)
        else:
            left.extend((channel, envelope) for envelope in envelopes)
    return left
