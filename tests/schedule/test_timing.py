"""When schedules fire: cron expressions, time zones, fixed rates."""

from __future__ import annotations

import datetime
import itertools
import typing as t

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from flask_ecotone import poller
from flask_ecotone import scheduled
from flask_ecotone.decorators.timing import Cron
from flask_ecotone.decorators.timing import Every
from flask_ecotone.errors import ConfigurationError

UTC = datetime.UTC


def moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(timing: t.Any, after: str, count: int) -> list[str]:
    """The next ticks, as times of UTC."""
    found, now = [], moment(after)
    for _ in range(count):
        now = timing.next_after(now)
        found.append(now.strftime("%m-%d %H:%M"))
    return found


def test_a_skipped_hour_is_made_up_for_once() -> None:
    """02:30 doesn't exist on the day: the schedule runs at 03:00, and once."""
    warsaw = Cron("30 2 * * *", "Europe/Warsaw")
    found = ticks(warsaw, "2026-03-28T12:00", 3)
    assert found == ["03-29 01:00", "03-30 00:30", "03-31 00:30"]
    new_york = Cron("30 2 * * *", "America/New_York")
    found = ticks(new_york, "2026-03-07T12:00", 2)
    assert found == ["03-08 07:00", "03-09 06:30"]


def test_a_repeated_hour_runs_daily_work_once() -> None:
    """02:30 exists twice on the day: the schedule runs the first time."""
    warsaw = Cron("30 2 * * *", "Europe/Warsaw")
    found = ticks(warsaw, "2026-10-24T12:00", 2)
    assert found == ["10-25 00:30", "10-26 01:30"]
    new_york = Cron("30 1 * * *", "America/New_York")
    found = ticks(new_york, "2026-11-01T00:00", 2)
    assert found == ["11-01 05:30", "11-02 06:30"]


def test_a_repeated_hour_runs_half_hourly_work_all_along() -> None:
    """What runs every half hour does so in both of the hours."""
    found = ticks(Cron("*/30 * * * *", "America/New_York"), "2026-11-01T04:45", 5)
    assert found == [
        f"11-01 {each}" for each in "05:00 05:30 06:00 06:30 07:00".split()
    ]


def test_a_time_zone_moves_the_tick() -> None:
    """The same expression is another moment elsewhere."""
    assert ticks(Cron("0 9 * * 1-5"), "2026-06-05T12:00", 1) == ["06-08 09:00"]
    warsaw = Cron("0 9 * * 1-5", "Europe/Warsaw")
    assert ticks(warsaw, "2026-06-05T12:00", 1) == ["06-08 07:00"]


def test_a_fixed_rate_has_the_same_ticks_everywhere() -> None:
    """Ticks are counted from the epoch and not from the start of a worker."""
    every = Every(datetime.timedelta(minutes=20))
    assert ticks(every, "2026-06-05T12:07", 3) == [
        "06-05 12:20",
        "06-05 12:40",
        "06-05 13:00",
    ]


_MOMENTS = st.datetimes(
    datetime.datetime(2024, 1, 1), datetime.datetime(2030, 1, 1), timezones=st.just(UTC)
)
_CHANGES = st.sampled_from(
    ["2026-03-29T01:00", "2026-10-25T01:00", "2026-03-08T07:00", "2026-11-01T06:00"]
)
_NEAR = st.builds(
    lambda change, minutes: moment(change) + datetime.timedelta(minutes=minutes),
    _CHANGES,
    st.integers(-400, 400),
)


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "15 */2 * * *"]),
    st.sampled_from([None, "Europe/Warsaw", "America/New_York"]),
    st.one_of(_MOMENTS, _NEAR),
    st.floats(0, 0.999),
)
def test_all_workers_agree_on_the_next_tick(
    cron: str, zone: str | None, now: datetime.datetime, part: float
) -> None:
    """The next tick is later, and the same from wherever before it one looks."""
    timing = Cron(cron, zone)
    found = timing.next_after(now)
    assert found > now
    assert timing.next_after(now + part * (found - now)) == found


@settings(deadline=None)
@given(st.integers(1, 10_000_000), _MOMENTS)
def test_fixed_rates_are_even(milliseconds: int, now: datetime.datetime) -> None:
    """Each tick is exactly one interval after the one before."""
    interval = datetime.timedelta(milliseconds=milliseconds)
    found = [now]
    for _ in range(4):
        found.append(Every(interval).next_after(found[-1]))
    assert now < found[1] <= now + interval
    pairs = itertools.pairwise(found[1:])
    assert all(later - earlier == interval for earlier, later in pairs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cron": "@daily"}, "Write '0 0 * * *'"),
        ({"cron": "@dayly"}, "Did you mean '@daily'"),
        ({"cron": "* * * *"}, "It has 4 fields"),
        ({"cron": "* * * * * *"}, "Seconds aren't among them"),
        ({"cron": "0 25 * * *"}, "Its hour, '25', is not in 0-23"),
        ({"cron": "* * * JANU *"}, "Did you mean 'JAN'"),
        ({"cron": "0 0 31 2 *"}, "never fires"),
        ({"cron": 5}, "Write for example"),
        ({"cron": "* * * * *", "every": datetime.timedelta(1)}, "has both"),
        ({"every": datetime.timedelta(0)}, "one millisecond or more"),
        ({"every": datetime.timedelta(-1)}, "one millisecond or more"),
        ({"every": 5}, "Give a timedelta"),
        ({"cron": "* * * * *", "timezone": "Europe/Warsav"}, "'Europe/Warsaw'"),
        ({"cron": "* * * * *", "timezone": ""}, "no time zone"),
        ({"every": datetime.timedelta(1), "timezone": "UTC"}, "without cron"),
        ({"cron": "* * * * *", "initial_delay": -1}, "It is 0 or more"),
        ({"cron": "* * * * *", "initial_delay": "1s"}, "no duration"),
    ],
)
def test_bad_times_are_explained(options: dict[str, t.Any], said: str) -> None:
    """What can't be a schedule says so where it is written, and what to write."""
    for decorator in (scheduled, poller):
        with pytest.raises(ConfigurationError) as caught:
            decorator(**options)
        assert said in str(caught.value)


def test_bad_options_are_explained() -> None:
    """A misfire policy that isn't there, an empty id and a bare expression."""
    with pytest.raises(ConfigurationError, match="Did you mean 'skip'"):
        scheduled(cron="* * * * *", misfire="skipp")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="1 to 255"):
        scheduled(cron="* * * * *", endpoint_id="")
    with pytest.raises(ConfigurationError, match="Write cron="):
        scheduled("* * * * *")  # type: ignore[call-overload]


def test_a_moment_without_time_zone_is_refused() -> None:
    """Nobody could tell when that is."""
    for timing in (Cron("* * * * *"), Every(datetime.timedelta(1))):
        with pytest.raises(ConfigurationError, match="no time zone"):
            timing.next_after(datetime.datetime(2026, 1, 1))
