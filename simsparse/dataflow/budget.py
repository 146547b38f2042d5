"""How long a search looks: without numpy, which the command line's help does not load."""

from __future__ import annotations

BUDGET = 200_000  # mappings
