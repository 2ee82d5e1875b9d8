"""The mailbox: a table with mails, and a switch that breaks it."""

from datetime import datetime
from datetime import UTC
from typing import Annotated

from sqlalchemy import select
from sqlalchemy import String
from sqlalchemy import Text
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import command_handler
from flask_ecotone import Header
from flask_ecotone import query_handler

from ..extensions import db
from .messages import BreakMailbox
from .messages import IsMailboxBroken
from .messages import ListMails
from .messages import MailboxIsBroken
from .messages import MailDetails
from .messages import MendMailbox


def now() -> datetime:
    """Return the current UTC time, naive because SQLite keeps no time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class Mail(db.Model):
    """A mail that arrived."""

    __tablename__ = "mails"

    mail_id: Mapped[int] = mapped_column(primary_key=True)
    shopper: Mapped[str] = mapped_column(String(32), index=True)
    order_id: Mapped[str] = mapped_column(String(32))
    recipient: Mapped[str] = mapped_column(String(80))
    subject: Mapped[str] = mapped_column(String(120))
    text: Mapped[str] = mapped_column(Text)
    written_at: Mapped[datetime] = mapped_column(default=now)


class Setting(db.Model):
    """A switch of the shop that is on; one that is off has no row."""

    __tablename__ = "settings"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)


#: The switch that makes every mail fail.
BROKEN = "mailbox is broken"


def put(mail: Mail) -> None:
    """Put a mail into the mailbox.

    :raises MailboxIsBroken: Somebody has broken it.
    """
    if db.session.get(Setting, BROKEN):
        raise MailboxIsBroken("The mailbox is broken. Mend it, then replay the mail.")
    db.session.add(mail)


@command_handler
def break_mailbox(command: BreakMailbox) -> None:
    """Turn the switch on, however often it is asked for."""
    db.session.merge(Setting(name=BROKEN))


@command_handler
def mend_mailbox(command: MendMailbox) -> None:
    """Turn the switch off."""
    if switch := db.session.get(Setting, BROKEN):
        db.session.delete(switch)


@query_handler
def is_mailbox_broken(query: IsMailboxBroken) -> bool:
    """Look at the switch."""
    return db.session.get(Setting, BROKEN) is not None


@query_handler
def list_mails(
    query: ListMails, shopper: Annotated[str, Header("shopper")]
) -> list[MailDetails]:
    """List the mails to the shopper, whom the header names."""
    mails = db.session.scalars(
        select(Mail)
        .where(Mail.shopper == shopper)
        .order_by(Mail.written_at.desc(), Mail.mail_id.desc())
    )
    return [
        MailDetails(
            mail.order_id, mail.recipient, mail.subject, mail.text, mail.written_at
        )
        for mail in mails
    ]
