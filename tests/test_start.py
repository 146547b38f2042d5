"""The command line and the package in new processes: what a start loads, where plug-ins lie, and how a process ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
DECODE = ["simulate", "llama-2-7b", "--on", "a100-sxm-80gb", "--phase", "decode", "--sparsity", "*.mlp.*=2:4"]
TOY = ["simulate", "toy-model", "--on", "toy", "--plugin", "toy_machine", "--plugin", "toy_model", "--format", "csv"]
# What nobody who prices a model need wait for.
HEAVY = {"numba", "scipy.stats", "pandas", "pyarrow", "matplotlib", "networkx", "torch", "onnx"}
COMMAND = "from simsparse.cli import main; import sys; main(sys.argv[1:])"


def fresh(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a new process, in the folder of the plug-ins."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=HERE, timeout=120)


def loaded_after(code: str, *arguments: str) -> set[str]:
    """Modules that a new process has then."""
    done = fresh(f"{code}; import sys; print(*sys.modules, file=sys.stderr)", *arguments)
    assert done.returncode == 0
    return set(done.stderr.split())


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_after("import simsparse") & {"numpy", "scipy", "pydantic", "rich", "typer", *HEAVY}


def test_help_loads_no_numpy() -> None:
    assert not loaded_after(COMMAND, "--help") & {"numpy", "numba", "pydantic", *HEAVY}


def test_simulate_loads_nothing_heavy() -> None:
    modules = loaded_after(COMMAND, *DECODE)
    assert {"numpy", "simsparse.simulate", "accel_models.gpu.machine", "workloads.huggingface"} <= modules
    assert not modules & HEAVY


def test_import_costs_little() -> None:
    """The public names are there without numpy; the first use of one loads it."""
    code = (
        "import simsparse, sys; assert 'numpy' not in sys.modules; assert callable(simsparse.compare); "
        "import simsparse.sweep, simsparse.validate; "
        "assert all(callable(getattr(simsparse, name)) for name in ('simulate', 'sweep', 'validate', 'diff')); "
        "assert set(dir(simsparse)) >= {'load_workload', 'load_machine', 'estimate_gemm', 'register', 'Result'}"
    )
    done = fresh(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_plugin_comes_from_the_current_folder() -> None:
    code = "import sys; from simsparse.cli import main; sys.path.remove(''); sys.exit(main(sys.argv[1:]))"
    done = fresh(code, *TOY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "layers.*.mlp.up_proj,dense" in done.stdout


def test_a_reader_that_leaves_and_an_interrupt_are_quiet() -> None:
    start = [sys.executable, "-m", "simsparse"]
    with subprocess.Popen([*start, "patterns"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HERE) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.wait(60) == 1
        assert left.stderr.read() == b""
    waiting = "import time, simsparse.commands.listings as l; l.load_plugins = lambda _: time.sleep(60); "
    # Tests that a shell runs in the background are started with interrupts ignored.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code = (
        heeding
        + waiting
        + "from simsparse.cli import main; import sys; print('ready', flush=True); sys.exit(main(['workloads']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HERE
    ) as stopped:
        assert stopped.stdout is not None
        assert stopped.stderr is not None
        stopped.stdout.readline()
        time.sleep(0.5)
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(60) == 130
        assert stopped.stderr.read() == b""
