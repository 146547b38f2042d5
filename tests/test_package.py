"""The package as a whole: who imports whom, and one wheel that works far from the checkout."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("simsparse", "workloads", "accel_models")
ALLOWED = {"simsparse": set(), "workloads": {"simsparse"}, "accel_models": {"simsparse"}}
MADE_BY_PYTHON = {".pyc", ".nbi", ".nbc"}
SIMULATE = ["simulate", "llama-2-7b", "--on", "a100-sxm-80gb", "--phase", "decode", "--format", "json"]


def imported(source: Path) -> Iterator[str]:
    """Top-level packages that a file imports anywhere in it."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}: relative import"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_leaves_import_the_core_only_and_the_core_no_leaf(package: str, root: Path) -> None:
    others = set(PACKAGES) - {package} - ALLOWED[package]
    sources = sorted((root / package).rglob("*.py"))
    assert sources
    assert [str(source) for source in sources if others & set(imported(source))] == []


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, so that nothing built earlier gets in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_every_file_of_the_three_packages(wheel: Path, root: Path) -> None:
    files = [file for package in PACKAGES for file in (root / package).rglob("*") if file.is_file()]
    expected = {file.relative_to(root).as_posix() for file in files if file.suffix not in MADE_BY_PYTHON}
    held = set(zipfile.ZipFile(wheel).namelist())
    assert expected - held == set()
    assert {name.partition("/")[0] for name in held if ".dist-info/" not in name} == set(PACKAGES)


def test_an_installed_wheel_works_and_caches_kernels_for_the_user(wheel: Path, tmp_path: Path) -> None:
    site, cache, empty = tmp_path / "site", tmp_path / "cache", tmp_path / "empty"
    empty.mkdir()
    pip("install", "--no-deps", "--no-index", "--no-compile", "--target", str(site), str(wheel))
    # Root may write anywhere: a file where a cache folder would be stands for a read-only package.
    for folder in {file.parent for package in PACKAGES for file in (site / package).rglob("*.py")}:
        (folder / "__pycache__").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NUMBA_")}
    environment |= {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path)}
    where = run([sys.executable, "-c", "import simsparse; print(simsparse.__file__)"], empty, environment)
    assert Path(where.strip()).is_relative_to(site)

    result = json.loads(run([sys.executable, str(site / "bin" / "simsparse"), *SIMULATE], empty, environment))
    assert result["latency_s"] > 0
    assert result["calls"]
    # A table this long is priced by compiled code.
    (empty / "products.csv").write_text("M,N,K\n" + "4096,128,4096\n" * 5000, encoding="utf-8")
    gemm = ["gemm", "--csv", "products.csv", "--on", "a100-sxm-80gb", "--format", "csv"]
    priced = run([sys.executable, str(site / "bin" / "simsparse"), *gemm], empty, environment)
    assert len(priced.splitlines()) == 5001
    assert list(tmp_path.rglob("*.nbi"))
    assert not list(site.rglob("*.nbi"))


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
