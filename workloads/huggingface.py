"""Workloads from a Hugging Face `config.json`: a file, a folder that holds one, or a shipped name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from simsparse.dtypes import dtype as read_dtype
from simsparse.errors import InputError, UnknownNameError
from simsparse.workload import Phase, Workload
from workloads._config import Config, read_json, whole
from workloads.architecture import Architecture, Patches
from workloads.families import read
from workloads.tensor_files import holds_weights
from workloads.transformer import DEFAULT_LENGTH, Step, build

SHIPPED = Path(__file__).parent / "configs"


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, Path]:
    """Shipped configs by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.json"))}


def load_config(name_or_path: str | Path) -> dict[str, object]:
    """The config of a model.

    Parameters
    ----------
    name_or_path : str or Path
        A shipped name, a JSON file, or a folder with `config.json`.

    Raises
    ------
    UnknownNameError
        For a name that is none of these, with near names.
    InputError
        For a file that is missing or no JSON object.
    """
    return read_json(_config_path(str(name_or_path)))


def _config_path(spec: str) -> Path:
    if spec in shipped():
        return shipped()[spec]
    path = Path(spec)
    try:
        if path.is_dir():
            return path / "config.json"
        if path.suffix == ".json" or path.is_file():
            return path
    except (OSError, ValueError):
        # A name no file system takes is no path.
        pass
    near = UnknownNameError.near("model or config.json", spec, shipped())
    raise UnknownNameError(f"{near}; any torch.nn.Module can be traced with workloads.torch")


def architecture(name_or_path: str | Path) -> Architecture:
    """What a model is made of, by its config."""
    spec = str(name_or_path)
    path = _config_path(spec)
    return read(Config(read_json(path), f"config of {model_name(spec)}"))


@lru_cache(maxsize=64)
def _shipped_architecture(name: str) -> Architecture:
    return architecture(name)


def model_name(spec: str) -> str:
    """The name of a shipped model, the folder's of a `config.json`, else the file's."""
    if spec in shipped():
        return spec
    path = Path(spec)
    own = path.stem if path.suffix == ".json" and path.stem != "config" else ""
    return own or (path.parent if path.name == "config.json" else path).resolve().name or spec


def checkpoint_names(name_or_path: str | Path) -> dict[str, str]:
    """From the name of each weight tensor to the end of its name in a checkpoint.

    `*` stands for the layer index, a second `*` for the expert. A prefix such as `model.` may come before it.
    """
    arch, spec = architecture(name_or_path), str(name_or_path)
    weights = transformer(spec).weights
    return {weight.tensor.name: arch.native_name(weight.tensor.name) for weight in weights}


def transformer(
    name_or_path: str | Path | Mapping[str, object],
    *,
    phase: str | None = None,
    batch: int = 1,
    seq: int | None = None,
    context: int | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    source: int | None = None,
    optimizer: str = "adam",
    name: str | None = None,
) -> Workload:
    """One step of a transformer.

    Parameters
    ----------
    name_or_path : str, Path or mapping
        As for `load_config`, or the config itself.
    phase : {"prefill", "decode", "encode", "train"}, optional
        `prefill`: prompts through the decoder (and through the encoder, if there are two stacks). `decode`: new tokens
        on top of a cache; an encoder has run before. `encode`: the encoder alone. `train`: a whole step. Default:
        prefill; a model without decoder has one pass, and encode and prefill are both names of it.
    batch : int
        Sequences, images or recordings.
    seq : int, optional
        New tokens of each: 1 in decoding, else 2048 or as many as the config has positions for. Images and audio have
        their own lengths.
    context : int, optional
        Tokens cached before: in decoding 2048, or as many as leave room for `seq` among learned positions; else 0.
    dtype, kv_dtype : str, optional
        Of weights and activations (default: what the config says, else fp16), and of the cache (default: `dtype`).
    source : int, optional
        Tokens of each sequence in a text encoder; default: as many as in the decoder.
    optimizer : {"adam", "momentum", "sgd"}
        Of a training step.
    name : str, optional
        What to call it.

    Raises
    ------
    SimsparseError
        For whatever is wrong with the config or the arguments, in one sentence.
    """
    if isinstance(name_or_path, Mapping):
        called = name or "model"
        arch = read(Config(name_or_path, f"config of {called}"))
    else:
        spec = str(name_or_path)
        called = name or model_name(spec)
        arch = _shipped_architecture(spec) if spec in shipped() else architecture(spec)
    kind = read_dtype(dtype or arch.dtype or "fp16")
    chosen = _phase(arch, phase)
    step = _step(arch, chosen, batch, seq, context, source)
    forward = build(called, arch, step, kind, read_dtype(kv_dtype) if kv_dtype else kind)
    if chosen is not Phase.TRAIN:
        return forward
    from workloads.training import training_step

    return training_step(forward, optimizer)


def _phase(arch: Architecture, phase: str | None) -> Phase:
    try:
        chosen = Phase.PREFILL if phase is None else Phase(phase)
    except ValueError:
        raise InputError.expected("phase", phase, f"one of {', '.join(Phase)}") from None
    if chosen is Phase.PREFILL and arch.decoder is None:
        return Phase.ENCODE
    return chosen


def _step(
    arch: Architecture, phase: Phase, batch: int, seq: int | None, context: int | None, source: int | None
) -> Step:
    """Lengths with their defaults."""
    batch = whole("batch", batch)
    limit = arch.embedding.usable_positions if arch.embedding is not None else None
    default = 1 if phase is Phase.DECODE else min(DEFAULT_LENGTH, limit or arch.longest or DEFAULT_LENGTH)
    new = default if seq is None or isinstance(arch.front, Patches) else whole("seq", seq)
    if context is None:
        room = DEFAULT_LENGTH if limit is None else max(0, min(DEFAULT_LENGTH, limit - new))
        cached = room if phase is Phase.DECODE else 0
    else:
        cached = whole("context", context, least=0)
    if cached and phase in (Phase.ENCODE, Phase.TRAIN):
        raise InputError.expected("context", context, f"0 in phase {phase}, which has no cache")
    forward = phase
    if phase is Phase.TRAIN:
        forward = Phase.ENCODE if arch.decoder is None else Phase.PREFILL
    sources = None if source is None else whole("source", source)
    return Step(forward, batch, new, cached, sources, keeps_cache=phase is not Phase.TRAIN)


class HuggingFaceSource:
    """Workloads from configs, for the registry."""

    def names(self) -> list[str]:
        """Shipped models."""
        return list(shipped())

    def accepts(self, spec: str) -> bool:
        """A shipped name, a JSON file, or a folder with a `config.json` and no weights (those are measured)."""
        if spec in shipped() or spec.endswith(".json"):
            return True
        try:
            return (Path(spec) / "config.json").is_file() and not holds_weights(Path(spec))
        except (OSError, ValueError):
            return False

    def load(
        self,
        spec: str,
        *,
        phase: str | None = None,
        batch: int = 1,
        seq: int | None = None,
        context: int | None = None,
        dtype: str | None = None,
    ) -> Workload:
        """See `transformer`."""
        return transformer(spec, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)


SOURCE = HuggingFaceSource()
