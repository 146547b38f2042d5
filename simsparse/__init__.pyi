# What `import simsparse` offers: read by type checkers, and at run time to load each name on first use.
from .diff import diff as diff
from .errors import InputError as InputError
from .errors import SimsparseError as SimsparseError
from .errors import UnknownNameError as UnknownNameError
from .errors import UnsupportedError as UnsupportedError
from .registry import load_machine as load_machine
from .registry import load_workload as load_workload
from .registry import machine_names as machine_names
from .registry import register as register
from .registry import workload_names as workload_names
from .result import Result as Result
from .simulate import GemmEstimate as GemmEstimate
from .simulate import compare as compare
from .simulate import estimate_gemm as estimate_gemm
from .simulate import simulate as simulate
from .sparsity import Pattern as Pattern
from .sweep import sweep as sweep
from .validate import validate as validate
from .workload import Workload as Workload

__version__: str
