"""``rloss-caffe plot``: what it writes, and what it says."""

import csv
import os
import subprocess
import sys

import pytest
from helpers.logs import begin, step
from helpers.paths import ROOT

from rloss_caffe.commands import main

SCRIPT = ROOT / "tools" / "plot_training.py"


@pytest.fixture
def phases(tmp_path):
    paths = tmp_path / "one.log", tmp_path / "two.log"
    paths[0].write_text(begin("one", "one") + "".join(step(i, 3 - i / 100) for i in range(0, 110, 10)))
    paths[1].write_text(begin("two", "two") + "".join(step(i, 2 - i / 100, -1e6) for i in range(0, 60, 10)))
    return paths


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def plot(*words):
    return main(["plot", *map(str, words)])


def test_table_and_picture(phases, tmp_path, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    path = tmp_path / "tables" / "table.csv"  # this folder is not there yet
    assert plot("--join", *phases, "--csv", path, "--labels", "both, in one") == 0
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17 and {row["run"] for row in rows} == {"both, in one"}
    assert [row["iteration_on_axis"] for row in rows[-2:]] == ["140", "150"]
    assert rows[-1]["phase"] == "2" and rows[-1]["iteration"] == "50" and float(rows[-1]["total_loss"]) == 1.5
    assert rows[0]["train/densecrf_loss"] == "" and float(rows[-1]["train/densecrf_loss"]) == -1e6
    said = capsys.readouterr()
    assert said.out == "" and f"wrote {path}\n" in said.err and "wrote rloss_output/training.png\n" in said.err
    assert (tmp_path / "rloss_output" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_table_alone(phases, tmp_path, capsys):
    assert plot(phases[0], "--csv", "-", "--no-picture") == 0
    assert capsys.readouterr().out.startswith("run,phase,iteration,iteration_on_axis,total_loss,lr,")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.log", "two.log"]


def test_git_does_not_see_what_is_written(phases, tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    subprocess.run(["git", "init", "-q", "."], check=True)
    assert plot(phases[0]) == 0 and (tmp_path / "rloss_output").is_dir()
    status = subprocess.run(["git", "status", "--porcelain"], check=True, capture_output=True, text=True).stdout
    assert status.split() == ["??", "one.log", "??", "two.log"]


@pytest.mark.parametrize("suffix, beginning", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_kinds_of_pictures(phases, tmp_path, suffix, beginning, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    path = tmp_path / f"curves.{suffix}"
    words = [phases[0], "--join", *phases, "--smooth", 5, "--smoothing", "ema", "--curves", "lr", "total_loss"]
    assert plot(*words, "--output", path) == 0
    assert path.read_bytes().startswith(beginning)
    assert "one: 100 iterations, total loss 2 at the end" in capsys.readouterr().err
    assert not (tmp_path / "rloss_output").exists()


def test_restarts_are_told(phases, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    phases[0].write_text(phases[0].read_text() + step(50, 1.0))
    assert plot(phases[0]) == 0
    assert "one: restarted at iteration 50 after 100; the later values count" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["missing.log"], "missing.log"),
        (["empty.log"], "empty.log: no training found"),
        ([], "give at least one log"),
        (["one.log", "--smooth", "0"], "--smooth must be >= 1"),
        (["one.log", "--output", "curves.docx"], "docx"),
        (["one.log", "--output", "curves"], "curves: a picture's name ends in its kind"),
        (["one.log", "--curves", "nothing"], "no curve fits 'nothing'"),
        (["one.log", "--labels", "a", "b"], "expected 1 labels"),
        (["one.log", "--no-picture"], "--no-picture leaves nothing to do"),
        (["one.log", "--no-picture", "--csv", "-", "--output", "x.png"], "--no-picture leaves nothing to do"),
    ],
)
def test_messages_for_people(phases, tmp_path, capsys, words, message):
    pytest.importorskip("matplotlib", minversion="3.7")
    (tmp_path / "empty.log").write_text("nothing\n")
    assert plot(*words) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rloss-caffe plot: ") and message in last
    assert not list(tmp_path.rglob("*.part")) and not list(tmp_path.rglob("curves*"))


def test_the_script_is_the_command(phases, tmp_path):
    pytest.importorskip("matplotlib", minversion="3.7")
    run = subprocess.run([sys.executable, str(SCRIPT), str(phases[0])], capture_output=True, text=True)
    assert run.returncode == 0 and "wrote rloss_output/training.png" in run.stderr
    assert len(SCRIPT.read_text().split("\n\n")) == 3


def test_without_matplotlib(phases, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def run(*words):
        command = [sys.executable, "-m", "rloss_caffe", "plot", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    done = run(phases[0], "--output", tmp_path / "x.png")
    assert done.returncode == 1 and "this brings it: " in done.stderr
    assert run(phases[0], "--csv", tmp_path / "x.csv", "--no-picture").returncode == 0
