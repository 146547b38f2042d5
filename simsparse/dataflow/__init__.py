"""Dataflow analysis: what a loop nest on storage levels with sparse features moves, takes and burns, and why.

`analyze(problem, architecture, mapping)` counts; see `simsparse.dataflow.analysis`. The compiled code (`_cost.evaluate`
and what it calls) is shared by single analyses and searches. Public names are listed in `__init__.pyi`.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
