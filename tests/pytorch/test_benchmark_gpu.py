"""The benchmark for GPUs runs on the CPU, and gives no times where numbers are not the original's."""

import json
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT, shared_path

pytest.importorskip("torch", reason="it measures tensors")


def benchmark(*options):
    command = [
        sys.executable,
        str(ROOT / "tools" / "benchmark_gpu.py"),
        "--device",
        "cpu",
        "--quick",
        *map(str, options),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_quick(tmp_path):
    path = tmp_path / "results.json"
    done = benchmark("--json", path)
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())
    assert [(row["size"], row["batch"]) for row in results["speed"]] == [(33, 1), (34, 2)]
    assert all(row["build"] > 0 and row["forward + backward"] > 0 for row in results["speed"])
    assert all(row["cpu path"] > 0 and row["Gated CRF by unfold"] > 0 for row in results["peers"])
    assert len(results["parity"]) == 1 and "| size | batch | classes |" in done.stdout


def test_every_reference_case_is_looked_at(tmp_path):
    """And one that does not agree is named, in the place of times."""
    file = shared_path("reference/densecrf_loss.npz")
    reference = dict(np.load(file))
    reference["one_row/gradient"] = reference["one_row/gradient"] * np.float32(1 + 1e-4)
    np.savez(tmp_path / "densecrf_loss.npz", **reference)
    done = benchmark("--parity", tmp_path)
    assert done.returncode == 1 and "(one_row)" in done.stderr and "Milliseconds" not in done.stdout
    cases = {key.split("/")[0] for key in reference}
    assert all(case in done.stdout for case in cases)
