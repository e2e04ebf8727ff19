"""The benchmark runs, on small sizes, and writes what it prints."""

import json
import subprocess
import sys

import pytest
from helpers.paths import ROOT


def test_short_benchmark(tmp_path):
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    path = tmp_path / "results.json"
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), "--quick", "--json", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(path.read_text())
    assert len(figures["speed"]) == 4 and all(row["loss forward"] > 0 for row in figures["speed"])
    assert len(figures["by_channels"]) == 2 and figures["machine"]["runs"] == 2
    assert "| size | batch | threads |" in output
    assert ("pydensecrf is not installed" in output) == (figures["pydensecrf"] is None)


def test_short_benchmark_of_layers():
    for module in ("caffe", "cv2", "skimage"):
        pytest.importorskip(module, reason="layers are timed in Caffe, on scikit-image's photographs")
    command = [sys.executable, str(ROOT / "tools" / "benchmark_layers.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) == 1 + 6 + 1 + 2
