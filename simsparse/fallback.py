"""Why a pattern gains nothing: the call runs on the kernel that dense takes, and what the others would need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from simsparse.inventory import call_names
from simsparse.plan import Alternative, Call

if TYPE_CHECKING:
    from simsparse.result import Result

GAIN = 1.01  # less than that is none
_REASONS = 2  # as many are told


def why_dense(taken: str, latency_s: float, tried: Sequence[Alternative], dense: Sequence[Alternative]) -> str:
    """What the kernels that use a pattern would need, or why they cannot run; empty if there is none.

    Parameters
    ----------
    taken : str
        The kernel, which dense takes too.
    latency_s : float
        Its time.
    tried, dense : sequence of Alternative
        What was not taken, with the pattern and for dense. What runs dense as well uses no pattern.
    """
    plain = {taken, *(other.kernel for other in dense if other.latency_s is not None)}
    special = [other for other in tried if other.kernel not in plain]
    slower = [(other.latency_s, other.kernel) for other in special if other.latency_s is not None]
    if slower:
        nearest_s, kernel = min(slower)
        return f"{kernel} takes {nearest_s / latency_s:.2f}× as long"
    # A reason that dense is given as well says nothing about the pattern.
    told = {(other.kernel, other.reason) for other in dense}
    telling = [other for other in special if (other.kernel, other.reason) not in told] or special
    first = {other.reason: other.kernel for other in reversed(telling)}
    return "; ".join(f"{kernel}: {reason}" for reason, kernel in [*reversed(first.items())][:_REASONS])


def why_row_is_dense(result: Result, row: int) -> str:
    """The same of a call of a result; empty where it has no pattern, gains from it, or another kernel is not known."""
    call = result.plan.calls[row]
    latency_s = float(result.prices.latency_s[row])
    if call.pattern in ("", "dense") or result.row_dense_latency_s[row] > latency_s * GAIN:
        return ""
    twin = next((other for other in result.baseline.plan.calls if _same_work(call, other)), None)
    if twin is None or twin.kernel != call.kernel:
        return ""
    return why_dense(call.kernel, latency_s, call.alternatives, twin.alternatives)


def _same_work(call: Call, other: Call) -> bool:
    return call.ops == other.ops and set(call.layers) <= set(other.layers)


def unused_patterns(result: Result) -> tuple[str, ...]:
    """A sentence for each pattern that calls run as dense, about the longest of them."""
    time_s = result.prices.latency_s * result.counts
    found: dict[str, list[tuple[int, str]]] = {}
    for row, call in enumerate(result.plan.calls):
        why = why_row_is_dense(result, row)
        if why:
            found.setdefault(call.pattern, []).append((row, why))
    return tuple(_sentences(result, found, time_s.tolist()))


def _sentences(
    result: Result, found: dict[str, list[tuple[int, str]]], time_s: Sequence[float]
) -> Iterator[str]:  # fmt: skip
    names = call_names(result.plan.calls)
    for pattern, rows in found.items():
        row, why = max(rows, key=lambda item: time_s[item[0]])
        call = result.plan.calls[row]
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        yield f"{pattern} gains nothing on {names[row]}{more}, which {call.kernel} runs as dense: {why}"
