"""The language of mailing: what others may ask, and what can go wrong."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class ListMails:
    """Ask for the mails to the current shopper, newest first."""


@dataclass(frozen=True)
class MailDetails:
    """A mail as it lies in the inbox."""

    order_id: str
    recipient: str
    subject: str
    text: str
    written_at: datetime


@dataclass(frozen=True)
class BreakMailbox:
    """Let every mail fail from now on."""


@dataclass(frozen=True)
class MendMailbox:
    """Let mails arrive again."""


@dataclass(frozen=True)
class IsMailboxBroken:
    """Ask whether mails fail."""


class MailboxIsBroken(Exception):
    """No mail can be put into the mailbox."""
