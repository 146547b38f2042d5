"""Transforms: functions from Workload to Workload. Each leaves a line in `Workload.transforms`."""

from simsparse.transforms.patterns import put_patterns, with_sparsity

__all__ = ["put_patterns", "with_sparsity"]
