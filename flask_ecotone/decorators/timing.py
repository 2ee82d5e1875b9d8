"""When schedules fire: cron expressions in time zones, and fixed rates."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from dataclasses import dataclass
from dataclasses import field

from cronsim import CronSim
from cronsim import CronSimError

from ..errors import ConfigurationError
from ..errors import did_you_mean

_UTC = datetime.UTC
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_RANGES = ("0-59", "0-23", "1-31", "1-12 or JAN-DEC", "0-7 or SUN-SAT")
_NAMES = (
    *"JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(),
    *"SUN MON TUE WED THU FRI SAT".split(),
)
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
#: No clock is set back, or forward, by more than this.
_AROUND_A_CHANGE = datetime.timedelta(hours=3)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=_UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """The ticks of a cron expression on the clocks of a time zone.

    As Debian's cron it runs what a clock skips when the clock is put forward right
    after, and what a clock shows twice only once, unless it runs every hour anyway.

    :raises ConfigurationError: The expression or the time zone is none.
    """

    expression: str
    timezone: datetime.tzinfo | str | None = None
    _zone: datetime.tzinfo = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", _zone_of(self.timezone))
        _check(self.expression)

    def next_after(self, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick later than a moment, in UTC."""
        after = _aware(moment).astimezone(_UTC)
        start = after
        if self._changes_near(after):
            # What a tick is near a change of the clocks depends on where one looks
            # from, and all workers are to agree: they look from before it.
            start = after - 2 * _AROUND_A_CHANGE
        ticks = CronSim(self.expression, start.astimezone(self._zone))
        for tick in ticks:
            found = tick.astimezone(_UTC)
            if found > after:
                return found
        raise ConfigurationError(
            f"The cron expression {self.expression!r} has no tick after {moment}."
        )

    def _changes_near(self, moment: datetime.datetime) -> bool:
        offsets = {
            (moment + shift).astimezone(self._zone).utcoffset()
            for shift in (-_AROUND_A_CHANGE, datetime.timedelta(0), _AROUND_A_CHANGE)
        }
        return len(offsets) > 1

    def __str__(self) -> str:
        if self.timezone is None:
            return self.expression
        return f"{self.expression} ({self._zone})"


@dataclass(frozen=True, slots=True)
class Every:
    """Ticks at a fixed rate, counted from the epoch, so that all workers agree.

    :raises ConfigurationError: The interval is none.
    """

    interval: datetime.timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.interval, datetime.timedelta):
            raise ConfigurationError(
                f"A schedule has every={self.interval!r}. Give a timedelta, for example"
                " every=timedelta(minutes=5)."
            )
        if self.interval < _MILLISECOND or self.interval % _MILLISECOND:
            raise ConfigurationError(
                f"A schedule has every={self.interval!r}. Give one millisecond or more,"
                " in whole milliseconds."
            )

    def next_after(self, moment: datetime.datetime) -> datetime.datetime:
        """Return the first tick later than a moment, in UTC."""
        passed = (_aware(moment) - _EPOCH) // self.interval
        return _EPOCH + (passed + 1) * self.interval

    def __str__(self) -> str:
        return f"every {self.interval}"


def _aware(moment: datetime.datetime) -> datetime.datetime:
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"The moment {moment} has no time zone. Give one, for example"
            " datetime(…, tzinfo=UTC)."
        )
    return moment


def _zone_of(given: datetime.tzinfo | str | None) -> datetime.tzinfo:
    if given is None:
        return _UTC
    if isinstance(given, datetime.tzinfo):
        return given
    try:
        return zoneinfo.ZoneInfo(given)
    except (TypeError, ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        hint = ""
        if isinstance(given, str):
            hint = did_you_mean(given, zoneinfo.available_timezones())
        raise ConfigurationError(
            f"A schedule has timezone={given!r}, which is no time zone.{hint} Give a"
            " name such as 'Europe/Warsaw'."
        ) from None


def _check(expression: str) -> None:
    said = f"A schedule has cron={expression!r}."
    example = "Write for example '*/5 * * * *' for every five minutes."
    if not isinstance(expression, str):
        raise ConfigurationError(f"{said} {example}")
    nickname = expression.strip().lower()
    if nickname.startswith("@"):
        meant = did_you_mean(nickname, _NICKNAMES)
        if nickname in _NICKNAMES:
            meant = f" Write {_NICKNAMES[nickname]!r}."
        raise ConfigurationError(f"{said} It has no nicknames.{meant or ' ' + example}")
    fields = expression.split()
    if len(fields) != len(_FIELDS):
        more = " Seconds aren't among them: use every=…" if len(fields) == 6 else ""
        raise ConfigurationError(
            f"{said} It has {len(fields)} fields, and needs five: {', '.join(_FIELDS)}."
            f"{more} {example}"
        )
    for number, (name, text) in enumerate(zip(_FIELDS, fields, strict=True)):
        alone = ["*"] * len(_FIELDS)
        alone[number] = text
        if not _is_valid(" ".join(alone)):
            words = re.findall(r"[A-Za-z]{3,}", text)
            close = (did_you_mean(word.upper(), _NAMES) for word in words)
            raise ConfigurationError(
                f"{said} Its {name}, {text!r}, is not in {_RANGES[number]}."
                f"{next(filter(None, close), '')}"
            )
    if not _is_valid(expression):
        raise ConfigurationError(
            f"{said} No month of it has such a day, so that it never fires."
        )


def _is_valid(expression: str) -> bool:
    try:
        next(CronSim(expression, datetime.datetime(2024, 1, 1, tzinfo=_UTC)))
    except (CronSimError, StopIteration):
        return False
    return True
