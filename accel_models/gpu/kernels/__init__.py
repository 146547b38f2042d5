"""Kernels of a GPU: each module a mechanism, its constants in `constants/kernels.toml`."""
