"""Formats and actions as text, the way design files and `--set` say them.

A format lists its ranks from the outermost in: `uop cp:4` (rows, then coordinates of 4 bits), `uop:7(C,R) rle:4(M)`
(offset pairs of 7 bits over C and R flattened, then runs of 4 bits over M). Ranks are `uop` (uncompressed), `b`
(bitmask), `cp` (coordinate), `rle` (run length); after the colon stand the bits of one metadata word (of an offset, in
`uop`), and after a second one those of a payload. A leading `outer-first` deals loops to ranks from the outside.

Actions are separated by semicolons, alternatives of one action by `or`: `skip C on A B; gate A on B or gate B on A`,
`skip-lanes B on A`, `pack A` (position skipping).
"""

from __future__ import annotations

import re

from simsparse.dataflow.architecture import Action, ActionKind, Option, Rank, RankFormat, TensorFormat
from simsparse.errors import InputError

NONE = "none"
OUTER_FIRST = "outer-first"
_RANK = re.compile(r"(?P<name>[a-z-]+)(?::(?P<bits>\d+))?(?::(?P<payload>\d+))?(?:\((?P<dims>[\w,]+)\))?")
_FORMATS = {
    "uop": RankFormat.UNCOMPRESSED, "uncompressed": RankFormat.UNCOMPRESSED, "b": RankFormat.BITMASK,
    "bitmask": RankFormat.BITMASK, "cp": RankFormat.COORDINATE, "coordinate": RankFormat.COORDINATE,
    "rle": RankFormat.RUN_LENGTH, "run-length": RankFormat.RUN_LENGTH,
}  # fmt: skip
_VERBS = {
    "gate": ActionKind.GATING, "skip": ActionKind.SKIPPING, "skip-lanes": ActionKind.SPATIAL_SKIPPING,
    "pack": ActionKind.POSITION_SKIPPING,
}  # fmt: skip


def parse_format(text: str, where: str = "format") -> TensorFormat | None:
    """The format of a text; None for `none`.

    Raises
    ------
    InputError
        For what is no rank, or a coordinate or run without a width; `where` says which format it is.
    """
    words = text.split()
    if words == [NONE]:
        return None
    inner_first = words[:1] != [OUTER_FIRST]
    ranks = tuple(_rank(word, where) for word in (words if inner_first else words[1:]))
    if not ranks:
        raise InputError.expected(where, text, "ranks such as 'uop cp:4', or none")
    return TensorFormat(ranks, inner_first)


def _rank(word: str, where: str) -> Rank:
    found = _RANK.fullmatch(word)
    if found is None or found["name"] not in _FORMATS:
        raise InputError.expected(f"rank in the {where}", word, f"one of {', '.join(_FORMATS)}, with :BITS and (DIMS)")
    kind = _FORMATS[found["name"]]
    bits = None if found["bits"] is None else float(found["bits"])
    dims = frozenset((found["dims"] or "").split(",")) - {""}
    if kind is RankFormat.UNCOMPRESSED:
        return Rank(kind, 0.0, bits or 0.0, dims)
    if bits is None and kind is not RankFormat.BITMASK:
        raise InputError(f"rank {word!r} in the {where} has no metadata width, expected {word}:BITS")
    return Rank(kind, 1.0 if bits is None else bits, float(found["payload"] or 0.0), dims)


def format_text(layout: TensorFormat | None) -> str:
    """The text that `parse_format` reads back."""
    if layout is None:
        return NONE
    words = [] if layout.inner_first else [OUTER_FIRST]
    for rank in layout.ranks:
        word = rank.format.value.lower()
        if rank.format is RankFormat.UNCOMPRESSED:
            word += f":{rank.payload_bits:g}" if rank.payload_bits else ""
        else:
            word += f":{rank.metadata_bits:g}" + (f":{rank.payload_bits:g}" if rank.payload_bits else "")
        words.append(word + (f"({','.join(sorted(rank.dims))})" if rank.dims else ""))
    return " ".join(words)


def parse_actions(text: str, where: str = "actions") -> tuple[Action, ...]:
    """Actions of a text; empty for `none`.

    Raises
    ------
    InputError
        For what is no action.
    """
    if text.strip() == NONE:
        return ()
    return tuple(_action(part, where) for part in text.split(";"))


def _action(text: str, where: str) -> Action:
    kinds, options = set(), []
    for part in text.split(" or "):
        verb, *rest = part.split() or [""]
        on = rest[2:] if rest[1:2] == ["on"] else []
        packs = verb == "pack"
        if verb not in _VERBS or not rest or (packs and len(rest) > 1) or (not packs and not on):
            raise InputError.expected(
                f"one of the {where}",
                part.strip(),
                "'skip C on A B', 'gate A on B', 'skip-lanes B on A' or 'pack A'",
            )
        kinds.add(_VERBS[verb])
        options.append(Option(rest[0], tuple(on)))
    if len(kinds) > 1:
        raise InputError.expected(f"one of the {where}", text.strip(), "alternatives of one kind")
    return Action(kinds.pop(), tuple(options))


def actions_text(actions: tuple[Action, ...]) -> str:
    """The text that `parse_actions` reads back."""
    verbs = {kind: verb for verb, kind in _VERBS.items()}
    return "; ".join(
        " or ".join(
            f"{verbs[action.kind]} {option.target}" + (f" on {' '.join(option.on)}" if option.on else "")
            for option in action.options
        )
        for action in actions
    ) or NONE  # fmt: skip
