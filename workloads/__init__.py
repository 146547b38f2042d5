"""How models become workloads."""
