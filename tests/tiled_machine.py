"""A machine whose tiles a test sets, and its events."""

from __future__ import annotations

from typing import Any

import numpy as np
from toy_machine import Toy

from simsparse.event_log import EventLog
from simsparse.events import run
from simsparse.plan import Plan
from simsparse.tiles import TileWork


class Tiled(Toy):
    """The toy with tiles that a test sets."""

    def __init__(self, work: TileWork) -> None:
        self.work = work

    def tiles(self, plan: Plan) -> TileWork:
        return self.work


PLAN = Plan("toy", (), np.zeros((1, 0)), np.zeros((1, 0)), np.zeros(1, dtype=np.int64))


def ran(work: TileWork, **options: Any) -> EventLog:
    return run(Tiled(work), PLAN, **options)
