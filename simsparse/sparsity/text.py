"""Text forms of patterns."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from simsparse.errors import InputError
from simsparse.sparsity.patterns import DENSE, NM, NMV, VNM, Block, Pattern, Rows, Slice, Unstructured, Vector
from simsparse.sparsity.runtime import Activation, AttentionBlock, AttentionToken

_LONGEST_TEXT = 100


_NUMBER = r"([0-9]*\.?[0-9]+(?:e-?\d+)?)"
# The text forms, in the order in which they are listed to users.
_FORMS: tuple[tuple[str, str, Callable[..., Pattern]], ...] = (
    ("dense", r"dense", lambda: DENSE),
    ("2:4", r"(\d+):(\d+)", lambda n, m: NM(int(n), int(m))),
    ("vnm64:2:8", r"vnm(\d+):(\d+):(\d+)", lambda v, n, m: VNM(int(v), int(n), int(m))),
    ("nmv32:16:32", r"nmv(\d+):(\d+):(\d+)", lambda v, n, m: NMV(int(v), int(n), int(m))),
    ("vector8:0.9", rf"vector(\d+):{_NUMBER}", lambda v, s: Vector(int(v), float(s))),
    ("unstructured:0.9", rf"unstructured:{_NUMBER}", lambda s: Unstructured(float(s))),
    ("block4x1:0.8", rf"block(\d+)x(\d+):{_NUMBER}", lambda r, c, s: Block(int(r), int(c), float(s))),
    ("rows:0.25", rf"rows:{_NUMBER}", lambda s: Rows(float(s))),
    ("slice:0.25", rf"slice:{_NUMBER}", lambda s: Slice(float(s))),
    ("act:0.9", rf"act:{_NUMBER}(?:@{_NUMBER})?", lambda s, c: Activation(float(s), float(c or 0))),
    ("attn-block64:0.9", rf"attn-block(\d+):{_NUMBER}", lambda b, s: AttentionBlock(int(b), float(s))),
    ("attn-token:0.9", rf"attn-token:{_NUMBER}", lambda s: AttentionToken(float(s))),
)
EXAMPLES = (*(example for example, _, _ in _FORMS), "mask:FILE")


@lru_cache(maxsize=4096)
def parse(text: str | Pattern) -> Pattern:
    """Read a pattern from its text form; `mask:FILE` measures a `.npy` or `.npz` mask.

    Raises
    ------
    InputError
        If it is none of the forms in `EXAMPLES`, or a number is out of range.
    """
    if isinstance(text, Pattern):
        return text
    cleaned = str(text).strip()
    if cleaned.startswith("mask:"):
        from simsparse.masks import measure_file

        return measure_file(cleaned.removeprefix("mask:"))
    for _, form, build in _FORMS if len(cleaned) <= _LONGEST_TEXT else ():
        match = re.fullmatch(form, cleaned.lower())
        if match:
            return build(*match.groups())
    raise InputError.expected("pattern", cleaned[:_LONGEST_TEXT], f"a form such as {', '.join(EXAMPLES)}")
