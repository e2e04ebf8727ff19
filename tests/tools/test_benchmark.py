"""The benchmark runs, on small sizes, and writes what it prints."""

import json
import subprocess
import sys

import pytest
from helpers.paths import ROOT

SCRIPT = str(ROOT / "tools" / "benchmark.py")
RATIOS = ["forward / (build + filter)", "exact / compatible", "1 / 2 threads, build + filter", "1 / 2 threads, forward"]


def test_short_benchmark(tmp_path):
    skimage = pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    path = tmp_path / "results.json"
    (tmp_path / "photographs").mkdir()
    skimage.io.imsave(str(tmp_path / "photographs" / "own.png"), skimage.data.coffee()[:90, :50])
    command = [sys.executable, SCRIPT, "--quick", "--photographs", str(tmp_path / "photographs"), "--json", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = json.loads(path.read_text())
    names = [row["photograph"] for row in figures["photographs"]]
    assert len(names) == 5 and names[-1] == "own"
    for row in figures["photographs"]:
        assert row["build"] > 0 and row["loss forward"] > 0
    for row in figures["ratios"]:
        assert all(0 < row[name] < 100 for name in RATIOS)
    for least, middle, most in zip(*[iter(figures["ratios' range"])] * 3):
        assert all(least[name] <= middle[name] <= most[name] for name in RATIOS)
    assert [row["batch"] for row in figures["batches"]] == [4, 5]
    assert len(figures["by_channels"]) == 2 and figures["machine"]["runs"] == 2
    assert "| photograph | size |" in output
    measured = figures["ratios"][0]["pydensecrf / (build + filter)"] is not None
    assert ("pydensecrf is not installed" in output) == (not measured)
    assert ("Caffe is not installed" in output) == (figures["caffe"] is None)


def test_first_calls_fill_a_cache():
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    code = "import benchmark, json; print(json.dumps(benchmark.first_call_table(['interpolation'])))"
    folder = str(ROOT / "tools")
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    cold, warm = json.loads(done.stdout)
    assert cold["cache"] == "empty" and warm["cache"] == "filled"
    assert 0 < cold["import, s"] < cold["all, s"] and warm["CPU, s"] > 0


def test_what_the_benchmark_refuses(tmp_path):
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    for options, text in [
        (["--only", "nothing"], "--only must name some of photographs"),
        (["--sizes", "321,x"], "--sizes must be whole numbers"),
        (["--photographs", str(tmp_path)], "--photographs must name a folder with JPEG or PNG files"),
    ]:
        done = subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True)
        assert done.returncode and text in done.stderr and "Traceback" not in done.stderr


def test_short_benchmark_of_layers():
    for module in ("caffe", "cv2", "skimage"):
        pytest.importorskip(module, reason="layers are timed in Caffe, on scikit-image's photographs")
    command = [sys.executable, str(ROOT / "tools" / "benchmark_layers.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) == 1 + 6 + 1 + 2
