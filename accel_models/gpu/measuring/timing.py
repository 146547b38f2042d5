"""Timing on a card: jobs in turns, each between two events, with the L2 cache emptied before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

ROUNDS = 24
WARM_UP = 3


class Event(Protocol):
    """A point in the card's queue, as `torch.cuda.Event` with timing."""

    def record(self) -> None:
        """Put it there."""

    def elapsed_time(self, end_event: Event, /) -> float:
        """Milliseconds to a later one."""


class Queue(Protocol):
    """What the card does, in order."""

    def event(self) -> Event:
        """A new one."""

    def empty_cache(self) -> None:
        """Put something large there, that leaves nothing of the jobs in L2."""

    def wait(self) -> None:
        """Until it is done with all."""


Job = Callable[[], object]


def in_turns(
    queue: Queue, jobs: Mapping[str, Job], meanwhile: Callable[[], None] = lambda: None
) -> dict[str, tuple[float, ...]]:
    """Seconds of every run of each job.

    All runs are put into the queue before the first is waited for, and the cache is emptied before each: while the
    card does that, the host is ahead with the launch, so that no time between events is the host's. Each round begins
    with another job, so that none of them always follows the same one.

    Parameters
    ----------
    meanwhile : callable
        Called once while the card is busy: what its clocks are.
    """
    names = list(jobs)
    for name in names:
        for _ in range(WARM_UP):
            jobs[name]()
    queue.wait()
    pairs: dict[str, list[tuple[Event, Event]]] = {name: [] for name in names}
    for turn in range(ROUNDS):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin, end = queue.event(), queue.event()
            queue.empty_cache()
            begin.record()
            jobs[name]()
            end.record()
            pairs[name].append((begin, end))
    meanwhile()
    queue.wait()
    return {name: tuple(begin.elapsed_time(end) / 1e3 for begin, end in runs) for name, runs in pairs.items()}
