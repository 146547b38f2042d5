"""simsparse: what a sparsity pattern buys on a machine, in time and energy, and why.

The public names are listed in `__init__.pyi`; each is loaded when it is first used.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
