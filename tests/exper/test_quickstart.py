"""The quickstart: its labels are honest, its nets are up to date, and a short run does everything a long one does."""

import re
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from rloss_caffe.datasets import examples

Image = pytest.importorskip("PIL.Image", reason="the quickstart reads pictures with Pillow")
FOLDER = ROOT / "exper" / "quickstart"
NAMES = sorted(examples.PHOTOS)


def label(kind, name):
    return examples.load_label(name, kind)


def test_there_are_labels():
    for kind in ("masks", "scribbles"):
        assert sorted(path.stem for path in (examples.LABELS / kind).glob("*.png")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_scribbles_are_thin_and_agree_with_the_masks(name):
    scribbles, mask = label("scribbles", name), label("masks", name)
    drawn = scribbles != 255
    assert 0.02 <= drawn.mean() <= 0.04
    np.testing.assert_array_equal(scribbles[drawn], mask[drawn])
    assert set(np.unique(mask)) - {255} == set(np.unique(scribbles)) - {255}  # every class has a stroke
    assert len(np.unique(mask)) >= 3 and mask.max() == 255 and mask[mask < 255].max() < 5


def test_every_class_occurs():
    values = set().union(*(np.unique(label("masks", name)).tolist() for name in NAMES))
    assert values == {0, 1, 2, 3, 4, 255}


def test_nets_are_up_to_date(tmp_path):
    pytest.importorskip("caffe", reason="NetSpec needs pycaffe")
    for path in FOLDER.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    subprocess.run([sys.executable, "net.py"], cwd=tmp_path, check=True, capture_output=True)
    written = sorted(tmp_path.glob("*.prototxt"))
    assert [path.name for path in written] == sorted(path.name for path in FOLDER.glob("*.prototxt"))
    for path in written:
        assert path.read_text() == (FOLDER / path.name).read_text(), f"{path.name}: run net.py again"


def test_short_run(tmp_path):
    pytest.importorskip("caffe", reason="the quickstart trains in Caffe")
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    pytest.importorskip("matplotlib", minversion="3.7", reason="the pictures are drawn with matplotlib")
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--output", str(tmp_path / "out")]
    command += ["--loss", "local_potts"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "phase_one.caffemodel").write_text("of a real run")
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "phase_one.caffemodel").read_text() == "of a real run"
    tables = run.stdout[run.stdout.index("IoU in %") :]
    scores = re.findall(r"^(phase one|phase two|control|full supervision).*?(\d+\.\d)", tables, re.MULTILINE)
    assert len(scores) == 12  # six trainings, in two tables
    assert tables.count("\nphase two: with the local Potts loss ") == 2
    assert "The DenseCRF loss gains" in run.stdout and "The local Potts loss gains" in run.stdout
    for name in NAMES:
        width, height = Image.open(tmp_path / "out" / "quick" / f"{name}.png").size
        assert width == 1200 and height > 600


def test_every_loss_trains_in_the_quickstarts_net(tmp_path, monkeypatch):
    """Two steps of the solver with each; another loss's files are written into the output's folder."""
    caffe = pytest.importorskip("caffe", reason="the quickstart trains in Caffe")
    pytest.importorskip("skimage", reason="the photographs come with scikit-image")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(FOLDER)  # the solvers name their nets relative to here
    import net

    caffe.set_mode_cpu()
    for loss in net.LOSSES:
        solver = caffe.get_solver(str(net.write_phase_two(loss, tmp_path)))
        solver.step(2)
        assert np.isfinite(solver.net.blobs[f"{loss}_loss"].data).all()
        assert solver.net.blobs[f"{loss}_loss"].data.any() and solver.net.blobs["probability"].diff.any()


def test_an_unknown_loss_is_refused(tmp_path):
    pytest.importorskip("caffe", reason="the quickstart trains in Caffe")
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--output", str(tmp_path), "--loss", "crf"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0
    assert re.fullmatch(r"quickstart failed: ValueError: --loss must be one of .*, found 'crf'\n", run.stderr)


def test_failure_is_one_clear_line(tmp_path):
    pytest.importorskip("caffe", reason="the quickstart trains in Caffe")
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, str(FOLDER / "run.py"), "--quick", "--output", str(tmp_path / "file")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0
    assert re.fullmatch(r"quickstart failed: NotADirectoryError: .*\n", run.stderr)
