"""Kernel timings of profilers as measurements: traces of torch, tables of Nsight Systems and Nsight Compute."""

from simsparse.profiles.nsight import Shape, read_nsight, read_shapes
from simsparse.profiles.rows import Timed, table
from simsparse.profiles.torch_trace import read_torch_trace

__all__ = ["Shape", "Timed", "read_nsight", "read_shapes", "read_torch_trace", "table"]
