"""What a transformer is made of, as frozen values: families read configs into these, one builder turns them into ops.

Modules are named alike in all families (`layers.*.self_attn.…`, `layers.*.mlp.…`, `encoder.layers.*.…` where there are
two stacks), so that globs work on any model; the last part of a name is the family's own (`q_proj`, `c_attn`, `fc1`).
`Architecture.native` holds the renaming to names in a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simsparse.errors import InputError


@dataclass(frozen=True)
class Linear:
    """A layer `outputs × inputs`, with or without bias; `name` is the last part of the module's name."""

    name: str
    outputs: int
    inputs: int
    bias: bool = False


@dataclass(frozen=True)
class Norm:
    """RMS norm or layer norm: the vectors it stores."""

    centered: bool  # layer norm: subtracts the mean
    weight: bool = True
    bias: bool = False


RMS = Norm(centered=False)
LAYER_NORM = Norm(centered=True, bias=True)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek-V2): keys and values of all heads from one cached vector of `rank + rope`.

    References
    ----------
    .. [1] DeepSeek-V2, arXiv:2405.04434, section 2.1.
    """

    rank: int
    rope: int
    nope: int
    query_rank: int | None


@dataclass(frozen=True)
class Attention:
    """One attention module.

    Attributes
    ----------
    name : str
    heads, kv_heads : int
    head_size, value_size : int
        Of queries and keys, and of values.
    projections : tuple of Linear
        Query, key, value; or one that makes all three. Unused with `latent`.
    output : Linear
    rotary : int
        Dimensions of a head that are rotated; 0 for none.
    qk_norm : Norm, optional
        Norm of each query and key head, with modules called `qk_norm_names`.
    latent : Latent, optional
    """

    name: str
    heads: int
    kv_heads: int
    head_size: int
    value_size: int
    projections: tuple[Linear, ...]
    output: Linear
    rotary: int = 0
    qk_norm: Norm | None = None
    qk_norm_names: tuple[str, str] = ("q_norm", "k_norm")
    latent: Latent | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise InputError.expected("key-value heads", self.kv_heads, f"a divisor of {self.heads} heads")
        if self.rotary > self.head_size:
            raise InputError.expected("rotary dimensions", self.rotary, f"at most the head size {self.head_size}")

    @property
    def queries_per_kv(self) -> int:
        """Query heads that share a key-value head."""
        return self.heads // self.kv_heads

    @property
    def cached_per_token(self) -> int:
        """Values kept for each token."""
        if self.latent is not None:
            return self.latent.rank + self.latent.rope
        return self.kv_heads * (self.head_size + self.value_size)


@dataclass(frozen=True)
class Mlp:
    """Feed-forward of two matrices, or three with a gate; `gated_up` makes gate and up in one matrix (Phi-3)."""

    name: str
    up: Linear
    down: Linear
    gate: Linear | None = None
    gated_up: bool = False


@dataclass(frozen=True)
class Moe:
    """Mixture of experts: a router sends each token to `top_k` of `experts`; `shared` sees every token.

    `expert` is one expert's feed-forward; `shared_gate` weighs the shared one by a learned sigmoid (Qwen2-MoE).
    """

    name: str
    experts: int
    top_k: int
    router: Linear
    expert: Mlp
    shared: Mlp | None = None
    shared_gate: Linear | None = None

    def __post_init__(self) -> None:
        if self.top_k > self.experts:
            raise InputError.expected("experts per token", self.top_k, f"at most {self.experts} experts")


@dataclass(frozen=True)
class Norms:
    """Names of the norms around one branch: before it, on its result, and after the residual sum; None for none."""

    before: str | None = None
    branch: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class Block:
    """One layer. `parallel`: attention and feed-forward read the same residual, one sum takes both (GPT-J, Falcon)."""

    attention: Attention
    feed_forward: Mlp | Moe
    attention_norms: Norms
    mlp_norms: Norms
    cross: Attention | None = None
    cross_norms: Norms = Norms()
    parallel: bool = False
    window: int | None = None


@dataclass(frozen=True)
class Stack:
    """Layers of one kind of pass.

    Attributes
    ----------
    name : str
        Prefix of its modules: empty, `encoder` or `decoder`.
    groups : tuple of (Block, layer indices)
        Equal layers together; see `grouped`.
    hidden : int
    norm : Norm
        All its norms outside attention heads.
    final_norm : str, optional
    causal : bool
    relative_buckets : int
        Rows of a learned relative position bias (T5), shared by all layers.
    """

    name: str
    groups: tuple[tuple[Block, tuple[int, ...]], ...]
    hidden: int
    norm: Norm
    final_norm: str | None
    causal: bool
    relative_buckets: int = 0

    def prefixed(self, module: str) -> str:
        """Full name of a module of this stack."""
        return f"{self.name}.{module}" if self.name else module


def grouped(blocks: list[Block]) -> tuple[tuple[Block, tuple[int, ...]], ...]:
    """Equal layers together, with their indices."""
    found: dict[Block, list[int]] = {}
    for layer, block in enumerate(blocks):
        found.setdefault(block, []).append(layer)
    return tuple((block, tuple(layers)) for block, layers in found.items())


@dataclass(frozen=True)
class Embedding:
    """From token indices to the residual stream.

    `positions` and `token_types` are rows of learned tables, 0 for none; `reserved` rows at the start of the position
    table stand for no position. `width` is that of the token table, projected to `hidden` where they differ.
    """

    vocabulary: int
    width: int
    hidden: int
    positions: int = 0
    reserved: int = 0
    token_types: int = 0
    norm: Norm | None = None

    @property
    def usable_positions(self) -> int | None:
        """Longest sequence of learned positions, None where any length goes."""
        return self.positions - self.reserved if self.positions else None


@dataclass(frozen=True)
class Patches:
    """An image cut into patches by a convolution, with a class token and learned positions (ViT)."""

    image: int
    patch: int
    channels: int
    bias: bool = True

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise InputError.expected("image size", self.image, f"a multiple of the patch size {self.patch}")

    @property
    def tokens(self) -> int:
        """Patches of an image and the class token."""
        return (self.image // self.patch) ** 2 + 1


@dataclass(frozen=True)
class Audio:
    """A spectrogram through two convolutions of width 3, the second of stride 2, and learned positions (Whisper)."""

    mels: int
    positions: int

    @property
    def frames(self) -> int:
        """Frames of the spectrogram."""
        return 2 * self.positions


@dataclass(frozen=True)
class Head:
    """A layer on the final hidden states: of all tokens, or of one a sequence (pooler, classifier).

    `tied_to` names the module whose weight it uses.
    """

    linear: Linear
    per_sequence: bool = False
    tied_to: str | None = None
    activation: bool = False


@dataclass(frozen=True)
class Architecture:
    """A whole model.

    Attributes
    ----------
    family : str
        Its `model_type`.
    embedding : Embedding, optional
        Absent in image models.
    encoder, decoder : Stack, optional
    front : Patches or Audio, optional
        What feeds the encoder instead of tokens.
    heads : tuple of Head
        In order; each reads what the one before made.
    dtype : str, optional
        Type the config names.
    longest : int, optional
        Most positions the config speaks of; a default for lengths, no limit.
    native : tuple of (ours, theirs)
        Replacements, in order, that turn a name here into the end of a tensor's name in a checkpoint.
    stored_transposed : bool
        Whether the checkpoint stores matrices as inputs × outputs (GPT-2).
    """

    family: str
    embedding: Embedding | None
    encoder: Stack | None
    decoder: Stack | None
    heads: tuple[Head, ...]
    front: Patches | Audio | None = None
    dtype: str | None = None
    longest: int | None = None
    native: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    stored_transposed: bool = False

    def native_name(self, tensor: str) -> str:
        """The end of a tensor's name in a checkpoint, `*` for the layer (a second `*` for the expert)."""
        for ours, theirs in self.native:
            tensor = tensor.replace(ours, theirs)
        return tensor
