"""exper/voc_mini/crossing_scribbles.py: strokes that cross outlines by so much, on so much of their length."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

for module in ("PIL", "scipy", "tqdm"):
    pytest.importorskip(module, reason="the script uses it")

from PIL import Image  # noqa: E402
from scipy import ndimage  # noqa: E402

FOLDER = ROOT / "exper" / "voc_mini"


@pytest.fixture
def case(tmp_path):
    """A folder with an image's mask, two objects on a ground with a border of 'ignore', and its scribbles."""
    mask, scribbles = np.zeros((90, 120), np.uint8), np.full((90, 120), 255, np.uint8)
    mask[20:70, 20:50], mask[20:70, 50:90] = 7, 3
    mask[20:70, 90:93] = 255
    scribbles[30:60, 34:37], scribbles[30:60, 70:73], scribbles[8:11, 10:110] = 7, 3, 0
    for name, label in (("masks", mask), ("scribbles", scribbles)):
        Image.fromarray(label).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(f"a.jpg {name}.png\n")
    Image.fromarray(mask).save(tmp_path / "a.jpg")
    return tmp_path, mask, scribbles


def crossed(folder, *options):
    command = [sys.executable, str(FOLDER / "crossing_scribbles.py"), "--data-root", str(folder)]
    command += [f"--{name}={folder / name}.txt" for name in ("masks", "scribbles")]
    done = subprocess.run([*command, "--output", str(folder / "out"), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    image, label = (folder / "out" / "list.txt").read_text().split()
    assert image == "a.jpg"
    return np.array(Image.open(folder / label)), done.stdout


@pytest.mark.parametrize("beyond, share", [(4, 0.03), (2, 0.05), (6, 0.1)])
def test_strokes_cross_by_so_much(case, beyond, share):
    folder, mask, scribbles = case
    found, said = crossed(folder, f"--beyond={beyond}", f"--share={share}")
    labelled = found != 255
    assert (found == scribbles)[scribbles != 255].all()
    wrong = labelled & (found != mask) & (mask != 255)
    assert share <= wrong.sum() / labelled.sum() < share + 0.03  # the last offshoot is whole
    for label in (0, 3, 7):  # no wrong label lies deeper in another than it should; 1.5 is half an offshoot's width
        depth = ndimage.distance_transform_edt(mask != label)[wrong & (found == label)]
        allowed = beyond + 1.5 + 3 * (label in (0, 3))  # what is ignored there lies between
        assert (depth <= allowed).all()
    assert ndimage.label(found == 7, np.ones((3, 3)))[1] == 1  # offshoots belong to strokes
    assert "of the labels are wrong" in said


def test_offshoots_that_stop_are_right(case):
    folder, mask, scribbles = case
    crossing, _ = crossed(folder)
    stopping, _ = crossed(folder, "--stop-at-outlines")
    assert (stopping == mask)[stopping != 255].all()
    assert ((stopping == crossing) | (stopping == 255)).all()
    assert (stopping != 255).sum() > (scribbles != 255).sum()


def test_an_image_with_one_label_stays():
    sys.path.insert(0, str(FOLDER))
    try:
        import crossing_scribbles
    finally:
        sys.path.remove(str(FOLDER))
    scribbles = np.full((9, 9), 255, np.uint8)
    scribbles[4, 4] = 0
    found = crossing_scribbles.cross(scribbles, np.zeros((9, 9), np.uint8), 4, 0.03, np.random.RandomState(0))
    assert (found == scribbles).all()
