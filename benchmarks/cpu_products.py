"""Products in the libraries of this environment, in a process of its own for each thread count.

Run by `cpu_kernels.py`: reads a line of JSON, products side by side and seconds for them, and answers with the median,
spread and number of samples of each.
"""

from __future__ import annotations

import json
import sys

from accel_models.cpu.measuring.products import Product, job
from accel_models.cpu.measuring.sampling import measured


def main(threads: int) -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        jobs = [job(Product(**product), threads) for product in request["products"]]
        samples = measured(jobs, request["budget_s"])
        print(json.dumps([[s.median_s, s.spread, s.samples] for s in samples]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
