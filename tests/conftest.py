"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def evidence() -> Path:
    """The measurements of others, which lie beside the project; in CI they must be there."""
    folder = ROOT.parent / "shared" / "evidence"
    if not folder.is_dir():
        message = "measurements (../shared/evidence) are not beside the project"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
