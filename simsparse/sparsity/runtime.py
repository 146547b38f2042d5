"""Patterns that are known only while a model runs: of its activations and of its attention."""

from __future__ import annotations

from dataclasses import dataclass

from simsparse.sparsity.codes import PatternKind
from simsparse.sparsity.patterns import Dense, Pattern, check_fraction, check_sizes, with_columns


@dataclass(frozen=True, slots=True)
class Activation(Pattern):
    """Inputs (neurons) that are zero at run time, so that their weights are not read.

    `shared` says how much of the choice tokens of a batch share: 1, all choose the same; 0, each chooses by itself.
    """

    zero: float
    shared: float = 0.0

    kind = property(lambda self: PatternKind.ACTIVATION)
    density = property(lambda self: 1.0 - self.zero)

    @property
    def text(self) -> str:
        """`act:0.9`, or `act:0.9@0.5` with half of the choice shared."""
        return f"act:{self.zero:g}" + (f"@{self.shared:g}" if self.shared else "")

    def __post_init__(self) -> None:
        check_fraction("act", self.zero)
        check_fraction("act sharing", self.shared)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`; ROW_CV holds the shared fraction."""
        return with_columns(Pattern.columns(self), ROW_CV=self.shared)

    def implies(self, other: Pattern) -> bool:
        """What is zero changes from token to token: it implies nothing but itself."""
        return isinstance(other, Dense) or self == other

    def transposed(self) -> Pattern:
        """The same neurons, seen from the other side."""
        return self


@dataclass(frozen=True, slots=True)
class AttentionBlock(Pattern):
    """Blocks of B x B scores (in decode: of B cached tokens) that are not computed."""

    b: int
    zero: float

    kind = property(lambda self: PatternKind.ATTENTION_BLOCK)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"attn-block{self.b}:{self.zero:g}")

    def __post_init__(self) -> None:
        check_sizes("attn-block", B=self.b)
        check_fraction("attn-block", self.zero)

    def columns(self) -> tuple[float, ...]:
        """See `Pattern.columns`."""
        return with_columns(Pattern.columns(self), HEIGHT=self.b, WIDTH=self.b)

    def implies(self, other: Pattern) -> bool:
        """Large blocks consist of smaller ones."""
        if isinstance(other, AttentionBlock):
            return self.b % other.b == 0 and self.density <= other.density + 1e-12
        return Pattern.implies(self, other)

    def transposed(self) -> Pattern:
        """Square blocks stay."""
        return self


@dataclass(frozen=True, slots=True)
class AttentionToken(Pattern):
    """Single cached tokens that are not attended to."""

    zero: float

    kind = property(lambda self: PatternKind.ATTENTION_TOKEN)
    density = property(lambda self: 1.0 - self.zero)
    text = property(lambda self: f"attn-token:{self.zero:g}")

    def __post_init__(self) -> None:
        check_fraction("attn-token", self.zero)

    def transposed(self) -> Pattern:
        """The same tokens."""
        return self
