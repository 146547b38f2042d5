"""Transforms: functions from Workload to Workload. Each leaves a line in `Workload.transforms`.

Those that leave out work (patterns, slicing, dropped layers) keep the workload they began with as `origin`, which
speedup is over. The others (types, parallelism) change the origin alike, since speedup compares like with like.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
