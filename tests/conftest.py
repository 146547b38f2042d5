"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings
from measurement_rows import Write, write_rows

from simsparse import registry
from simsparse.workload import Workload
from workloads.huggingface import transformer

# In CI the same examples every time: what a change breaks, and nothing else; new examples are found at the desk.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")

# Importing the toys registers them, as plug-ins do; here that must not reach tests that list everything.
with pytest.MonkeyPatch.context() as patch:
    patch.setattr(registry, "_ADDED", registry._Registry())
    import toy_machine
    import toy_model

ROOT = Path(__file__).resolve().parents[1]


def absent(what: str) -> NoReturn:
    """End a test that needs what is not here: in CI everything must be, elsewhere the test is skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def evidence() -> Path:
    """The measurements of others, which lie beside the project; in CI they must be there."""
    folder = ROOT.parent / "shared" / "evidence"
    if not folder.is_dir():
        absent("measurements (../shared/evidence) are not beside the project")
    return folder


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mappings of one run of the tests are kept for that run."""
    base = tmp_path_factory.getbasetemp() / "cache"
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(base))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine `toy` and workload `toy-model`, registered for one test only."""
    monkeypatch.setattr(registry, "_ADDED", registry._Registry())
    registry.register(toy_machine.Toy())
    registry.register(toy_model.ToyModels())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows of measurements as a CSV file."""
    return lambda *rows, name="rows.csv": write_rows(tmp_path / name, rows)


@pytest.fixture(scope="session")
def llama() -> Workload:
    return transformer("llama-2-7b", phase="decode", batch=2, context=512)
