"""How a figure is made, so that a busy machine doesn't make it.

The subjects of a comparison take turns in short batches, many rounds of them, each
round in another order. A figure is the median over the rounds; a ratio or a difference
is taken inside of each round first. Only those are worth quoting: microseconds depend
on the machine.
"""

from __future__ import annotations

import gc
import random
import statistics
import sys
import timeit
import typing as t
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

#: Does something a number of times and returns how many seconds that took.
Subject = Callable[[int], float]


def statement(code: str, names: Mapping[str, t.Any]) -> Subject:
    """Return a subject that runs a statement, with no call around it."""
    # timeit turns the collector off, which no application does.
    timer = timeit.Timer(code, "gc.enable()", globals={"gc": gc, **names})
    return timer.timeit


def calling(function: Callable[[], t.Any]) -> Subject:
    """Return a subject that calls a function; for what takes far longer than a call."""
    return statement("function()", {"function": function})


@dataclass(frozen=True)
class Comparison:
    """The times of some subjects, per operation, in rounds.

    :param times: Name of the subject → seconds in each round.
    :param floor: The subject that the others are compared with.
    """

    times: dict[str, list[float]]
    floor: str

    def median(self, name: str) -> float:
        """Return the seconds of one operation."""
        return statistics.median(self.times[name])

    def ratio(self, name: str, floor: str | None = None) -> float:
        """Return how many times the floor an operation takes."""
        pairs = self._pairs(name, floor)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def over(self, name: str, floor: str | None = None) -> float:
        """Return how many seconds more than the floor an operation takes."""
        pairs = self._pairs(name, floor)
        return statistics.median(ours - theirs for ours, theirs in pairs)

    def speed(self, name: str, floor: str | None = None) -> float:
        """Return how many times as fast as the floor an operation is."""
        pairs = self._pairs(name, floor)
        return statistics.median(theirs / ours for ours, theirs in pairs)

    def per_second(self, name: str) -> float:
        """Return how many operations are done in a second."""
        return 1 / self.median(name)

    def _pairs(self, name: str, floor: str | None) -> list[tuple[float, float]]:
        return list(zip(self.times[name], self.times[floor or self.floor], strict=True))

    def show(self, title: str) -> None:
        """Print a table."""
        print(f"\n{title}\n")
        width = max(len(name) for name in self.times)
        print(f"  {'':{width}}  {'µs':>9}  {'µs over':>9}  {'ratio':>7}")
        for name in self.times:
            median, over = self.median(name) * 1e6, self.over(name) * 1e6
            print(
                f"  {name:{width}}  {median:9.2f}  {over:9.2f}  {self.ratio(name):7.2f}"
            )
        self._say_rounds("'over' and 'ratio'")

    def show_rates(self, title: str) -> None:
        """Print a table of how many operations are done in a second."""
        print(f"\n{title}\n")
        width = max(len(name) for name in self.times)
        print(f"  {'':{width}}  {'a second':>9}  {'ratio':>7}")
        for name in self.times:
            rate, speed = self.per_second(name), self.speed(name)
            print(f"  {name:{width}}  {rate:9.0f}  {speed:7.2f}")
        self._say_rounds("'ratio'")

    def _say_rounds(self, what: str) -> None:
        rounds = len(self.times[self.floor])
        print(f"\n  medians of {rounds} rounds; {what}: to {self.floor!r}")


def compare(
    subjects: Mapping[str, Subject],
    floor: str,
    *,
    rounds: int = 41,
    batch: float = 0.005,
    count: int | None = None,
) -> Comparison:
    """Measure subjects in turns.

    :param floor: The subject that the others are compared with.
    :param batch: How many seconds a subject's turn takes.
    :param count: How many operations a turn is, instead.
    """
    counts = {
        name: count or _count(subject, batch) for name, subject in subjects.items()
    }
    times: dict[str, list[float]] = {name: [] for name in subjects}
    turns = list(subjects)
    shuffle = random.Random(1).shuffle
    gc.collect()
    for _ in range(rounds):
        for name in turns:
            times[name].append(subjects[name](counts[name]) / counts[name])
        # Who comes next finds the caches of the processor as the one before left them.
        shuffle(turns)
    return Comparison(times, floor)


def _count(subject: Subject, batch: float) -> int:
    number = 1
    while (taken := subject(number)) < batch / 4:
        number *= 2
    return max(1, round(number * batch / taken))


def verdict(
    claim: str, found: float, budget: float, unit: str, *, at_least: bool = False
) -> None:
    """Print whether a claim holds. It is a report: nothing fails.

    :param at_least: Whether the budget is the least that is claimed, not the most.
    """
    if at_least:
        said = "PASS" if found >= budget else "below budget"
    else:
        said = "PASS" if found <= budget else "over budget"
    limit = "at least" if at_least else "budget"
    print(f"  {said}: {claim}: {found:.2f} {unit}, {limit} {budget:g} {unit}")
    sys.stdout.flush()
