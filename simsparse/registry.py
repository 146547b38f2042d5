"""Names become objects here: machines, sources of workloads, methods, readers; by entry points or `register`.

Entry-point groups: `simsparse.machines` (a `Family`), `simsparse.workloads` (a `Source`), `simsparse.methods`,
`simsparse.commands`, `simsparse.measurements` (a `Reader`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from inspect import isfunction
from operator import index
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from simsparse.errors import InputError, UnknownNameError
from simsparse.plan import Machine
from simsparse.specs import Spec, checked, read_toml
from simsparse.workload import Workload

if TYPE_CHECKING:
    from simsparse.calibration.measured import MeasuredMachine, Watch
    from simsparse.calibration.timings import Timings
    from simsparse.calibration.tunable import Tunable
    from simsparse.validate import Reader


@runtime_checkable
class Source(Protocol):
    """Where workloads come from: a config, a folder of weights, an ONNX file, a module, a table."""

    def names(self) -> list[str]:
        """Names it ships; empty if it only reads files."""

    def accepts(self, spec: str) -> bool:
        """Whether a name or path is its business."""

    def load(
        self, spec: str, *, phase: str | None, batch: int, seq: int | None, context: int | None, dtype: str
    ) -> Workload:
        """Build the workload; `phase=None` takes what the model is for."""


def _nothing_free(_: Spec) -> tuple[Tunable, ...]:
    return ()


@dataclass(frozen=True)
class Family:
    """Machines of one kind: their spec model, the folder of their TOML files, and how a spec becomes a machine.

    `tunables` gives the figures that measurements may set (`simsparse calibrate --from`); `measure` times the machine
    that runs this program and gives it a name, `time` only times products on it; a family has one of them where it can
    (`simsparse calibrate FAMILY`).
    """

    family: str
    model: type[Spec]
    folder: Path
    build: Callable[[Spec], Machine] = field(repr=False)
    tunables: Callable[[Spec], Sequence[Tunable]] = field(default=_nothing_free, repr=False)
    measure: Callable[[str, Watch], MeasuredMachine] | None = field(default=None, repr=False)
    time: Callable[[Watch], Timings] | None = field(default=None, repr=False)

    @cached_property
    def files(self) -> Mapping[str, Path]:
        """Shipped specs by name; a file is named after its machine."""
        return {path.stem: path for path in sorted(self.folder.glob("*.toml"))}

    def spec(self, path: Path) -> Spec:
        """Read and check one spec, or an overlay on a shipped machine of the family."""
        data = read_toml(path)
        if "base" in data:
            from simsparse.calibration.overlay import overlaid

            return overlaid(data, f"overlay {path.name!r}", lambda base: self.spec(self.files[base]))
        return checked(self.model, data, where=f"machine file {path.name!r}")


class _Registry:
    """What `register` and `--plugin` added in this process."""

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.families: dict[str, Family] = {}
        self.sources: list[Source] = []
        self.readers: list[Reader] = []
        self.methods: dict[str, Callable[[Workload, str], Workload]] = {}


_ADDED = _Registry()


def register(obj: object) -> None:
    """Add a machine, a family of machines, a workload source, a measurement reader or a method to this process.

    A method is a function `(workload, argument) -> Workload`, known by its `__name__`.

    Raises
    ------
    InputError
        If the object is none of these.
    """
    if isinstance(obj, Family):
        _ADDED.families[obj.family] = obj
    elif isinstance(obj, Machine):
        _ADDED.machines[obj.name] = obj
    elif isinstance(obj, Source):
        _ADDED.sources.insert(0, obj)
    elif isfunction(obj):
        _ADDED.methods[obj.__name__] = obj
    else:
        from simsparse.validate import Reader

        if not isinstance(obj, Reader):
            raise InputError.expected(
                "registered object", type(obj).__name__, "a machine, family, source, reader or method"
            )
        _ADDED.readers.insert(0, obj)


def registered() -> _Registry:
    """What was added in this process, to be given to another one (`adopt`)."""
    return _ADDED


def adopt(added: _Registry) -> None:
    """Know what another process had registered."""
    vars(_ADDED).update(vars(added))


@lru_cache
def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


def _loaded(group: str) -> Iterator[object]:
    """What the entry points of a group name, each imported when its turn comes."""
    return (entry.load() for entry in _entries(group))


@lru_cache
def _installed_families() -> dict[str, Family]:
    return {f.family: f for f in _loaded("simsparse.machines") if isinstance(f, Family)}


def families() -> dict[str, Family]:
    """All families by name."""
    return _installed_families() | _ADDED.families


def sources() -> Iterator[Source]:
    """All workload sources, those registered here first."""
    yield from _ADDED.sources
    yield from (s for s in _loaded("simsparse.workloads") if isinstance(s, Source))


def readers() -> Iterator[Reader]:
    """All measurement readers, those registered here first."""
    from simsparse.validate import Reader

    yield from _ADDED.readers
    yield from (r for r in _loaded("simsparse.measurements") if isinstance(r, Reader))


def added_methods() -> dict[str, Callable[[Workload, str], Workload]]:
    """Methods that packages bring or that were registered here, by name."""
    found = {entry.name: entry.load() for entry in _entries("simsparse.methods")}
    return found | _ADDED.methods


def machine_names() -> list[str]:
    """Every machine that `load_machine` knows by name."""
    return sorted({*_ADDED.machines, *(name for family in families().values() for name in family.files)})


def workload_names() -> list[str]:
    """Every workload that is shipped."""
    return list(workload_sources())


def workload_sources() -> dict[str, Source]:
    """The source of every workload that is shipped, by name in order."""
    found: dict[str, Source] = {}
    for source in sources():
        for name in source.names():
            found.setdefault(name, source)
    return dict(sorted(found.items()))


def shipped(name: str) -> Path | None:
    """The TOML file of a machine, by its name; None for one that was registered as an object, or that nobody ships."""
    return next((family.files[name] for family in families().values() if name in family.files), None)


@lru_cache(maxsize=256)
def _spec(name: str) -> tuple[Family, Spec]:
    if name.endswith(".toml"):
        data = read_toml(Path(name))
        if "base" in data:
            return _overlaid(data, Path(name))
        kind = str(data.get("family", ""))
        if kind not in families():
            raise InputError.expected(f"family in {Path(name).name!r}", kind, f"one of {', '.join(families())}")
        family = families()[kind]
        return family, checked(family.model, data, where=f"machine file {Path(name).name!r}")
    for family in families().values():
        if name in family.files:
            return family, family.spec(family.files[name])
    for family in families().values():
        for path in family.files.values():
            # Only names that a file mentions at all are worth the parse.
            if f'"{name}"' in path.read_text(encoding="utf-8") and name in (spec := family.spec(path)).aliases:
                return family, spec
    raise UnknownNameError.near("machine", name, machine_names())


def _overlaid(data: Mapping[str, object], path: Path) -> tuple[Family, Spec]:
    """The machine of an overlay; a base that is a file lies beside it, or where its path leads from there."""
    from simsparse.calibration.overlay import overlaid

    def load(base: str) -> Spec:
        name = str(path.parent / base) if base.endswith(".toml") else base
        if base.endswith(".toml") and "base" in read_toml(Path(name)):
            raise InputError.expected(f"base of {path.name!r}", base, "a machine, not another overlay")
        return load_spec(name)

    spec = overlaid(data, f"overlay {path.name!r}", load)
    return families()[spec.family], spec


def load_spec(name: str) -> Spec:
    """The spec of a shipped machine, or of a TOML file by path."""
    return _spec(name)[1]


@lru_cache(maxsize=256)
def _built(name: str) -> Machine:
    family, spec = _spec(name)
    return family.build(spec)


def load_machine(name: str | Path | Machine, changes: Mapping[str, object] | None = None) -> Machine:
    """A machine by name, alias or TOML path, with figures of its spec changed (`{"sm_count": 160}`).

    Raises
    ------
    UnknownNameError, InputError
        For a name nobody ships, a file that is no spec, a field that is none.
    """
    if isinstance(name, PurePath):
        name = str(name)
    if not isinstance(name, str):
        if not hasattr(name, "lower_problems"):
            raise InputError.expected("machine", name, "a name, the path of a TOML file or a Machine")
        return name
    if name in _ADDED.machines:
        if changes:
            raise InputError(f"machine {name!r} was registered as an object, expected a spec to change fields of")
        return _ADDED.machines[name]
    if not changes:
        return _built(name)
    family, spec = _spec(name)
    return family.build(spec.with_figures(changes))


def _text(spec: object) -> str:
    if isinstance(spec, (str, PurePath)):
        return str(spec)
    what = f"a {type(spec).__module__}.{type(spec).__qualname__}"
    raise InputError(
        f"workload is {what}, expected a name, a path or a Workload (workloads.torch.trace makes one of a module)"
    )


def _whole(name: str, value: int) -> int:
    """The number as Python's own; callers without types may give anything."""
    try:
        return index(value)
    except TypeError:
        raise InputError.expected(name, value, "a whole number") from None


def _nothing_given(**options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError.expected(name, value, "nothing beside a Workload, which has its own")


def load_workload(
    spec: str | Path | Workload,
    *,
    phase: str | None = None,
    batch: int = 1,
    seq: int | None = None,
    context: int | None = None,
    dtype: str = "fp16",
) -> Workload:
    """A workload from a shipped name, a `config.json`, a folder, an ONNX file, a module or a table of GEMMs.

    Parameters
    ----------
    phase : {"prefill", "decode", "encode", "train"}, optional
        None takes what the model is for.
    batch, seq, context : int
        Sequences side by side, new tokens of each, tokens already cached.

    Raises
    ------
    UnknownNameError, InputError
    """
    if isinstance(spec, Workload):
        _nothing_given(phase=phase, batch=None if batch == 1 else batch, seq=seq, context=context)
        return spec
    spec = _text(spec)
    batch = _whole("batch", batch)
    seq, context = (None if n is None else _whole(name, n) for name, n in (("seq", seq), ("context", context)))
    if batch < 1:
        raise InputError.expected("batch", batch, "at least 1")
    if phase is not None and phase not in ("prefill", "decode", "encode", "train"):
        raise InputError.expected("phase", phase, "one of prefill, decode, encode, train")
    for source in sources():
        if source.accepts(spec):
            work = source.load(spec, phase=phase, batch=batch, seq=seq, context=context, dtype=dtype)
            assumed = tuple(name for name, given in (("seq", seq), ("context", context)) if given is None)
            return replace(work, assumed=assumed) if work.seq is not None and assumed else work
    raise UnknownNameError.near("workload", spec, workload_names())
