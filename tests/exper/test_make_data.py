"""exper/voc_mini/make_data.py: the study's data from a VOC tree, and the scribbles that it draws."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT, shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

for module in ("PIL", "cv2", "scipy", "skimage"):
    pytest.importorskip(module, reason="make_data.py reads, resizes and thins pictures")

from PIL import Image  # noqa: E402
from scipy import ndimage  # noqa: E402

from rloss_caffe.data.reading import read_image, read_label  # noqa: E402

FOLDER = ROOT / "exper" / "voc_mini"
SQUARE = np.ones((3, 3))


@pytest.fixture(scope="module")
def draw():
    """The function that draws scribbles, and a generator for them."""
    sys.path.insert(0, str(FOLDER))
    from synthetic_scribbles import draw_scribbles

    sys.path.remove(str(FOLDER))
    return lambda mask, seed=0: draw_scribbles(mask, np.random.RandomState(seed))


def blobs(height, width, seed, labels):
    """A mask of smooth regions with a border of 'ignore' between them."""
    noise = np.random.RandomState(seed).standard_normal((len(labels), height, width))
    mask = np.array(labels, np.uint8)[ndimage.gaussian_filter(noise, (0, 9, 9)).argmax(axis=0)]
    border = ndimage.maximum_filter(mask, 3) != ndimage.minimum_filter(mask, 3)
    return np.where(border, 255, mask).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(40, 160), st.integers(40, 160), st.integers(0, 999), st.sampled_from([[0, 8], [0, 12, 15], [17]]))
def test_scribbles_of_smooth_masks(draw, height, width, seed, labels):
    mask = blobs(height, width, seed, labels)
    scribbles = draw(mask, seed)
    drawn = scribbles != 255
    assert (scribbles[drawn] == mask[drawn]).all()
    for label in np.setdiff1d(mask, [255]):
        strokes = scribbles == label
        assert strokes.any(), label
        # Not beside another label, an ignored pixel or the frame, where there is a place that is not.
        inner = ndimage.binary_erosion(mask == label, SQUARE)
        parts, count = ndimage.label(mask == label, SQUARE)
        for part in (parts == number for number in range(1, count + 1)):
            if (part & inner).any():
                assert not (strokes & part & ~inner).any()
    assert (draw(mask, seed) == scribbles).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 999), st.floats(0, 1))
def test_scribbles_of_any_mask(draw, height, width, seed, share):
    """Single pixels, thin lines, nothing but 'ignore': the scribbles agree with the mask, and every label has some."""
    random = np.random.RandomState(seed)
    mask = random.choice(np.array([0, 8, 255], np.uint8), (height, width), p=[share, (1 - share) / 2, (1 - share) / 2])
    scribbles = draw(mask, seed)
    drawn = scribbles != 255
    assert scribbles.shape == mask.shape and (scribbles[drawn] == mask[drawn]).all()
    assert set(np.unique(scribbles)) - {255} == set(np.unique(mask)) - {255}


def test_scribbles_are_like_those_of_the_study(draw):
    """On the study's own masks: as many pixels, strokes and background pixels as the scribbles it was trained on."""
    ids = shared_path("voc_mini/list/train_id.txt").read_text().split()[::25]
    shares, strokes, background = ([[], []] for _ in range(3))
    for seed, identity in enumerate(ids):
        mask = read_label(shared_path(f"voc_mini/SegmentationClassAug/{identity}.png"))
        theirs = read_label(shared_path(f"voc_mini/pascal_2012_scribble/{identity}.png"))
        for whose, scribbles in enumerate((draw(mask, seed), theirs)):
            drawn = scribbles != 255
            shares[whose].append(100 * drawn.mean())
            strokes[whose].append(sum(ndimage.label(scribbles == k, SQUARE)[1] for k in set(scribbles[drawn])))
            background[whose].append(np.mean(scribbles[drawn] == 0))
            assert (scribbles[drawn] == mask[drawn]).all()
            large = [k for k in np.setdiff1d(mask, [255]) if np.mean(mask == k) >= 0.01]
            assert set(large) <= set(scribbles[drawn])
    assert min(shares[0]) > 2 and max(shares[0]) < 4.5
    assert abs(np.subtract(*map(np.mean, shares))) < 0.25
    assert abs(np.subtract(*map(np.mean, strokes))) < 0.7
    assert abs(np.subtract(*map(np.mean, background))) < 0.06


# --- the script ------------------------------------------------------------------------------------------------------


def make_data(*words):
    command = [sys.executable, str(FOLDER / "make_data.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def voc(tmp_path):
    """A VOC tree of three photographs, of which two are wanted, and the ids of these."""
    sizes = {"2007_000001": (500, 375), "2007_000002": (333, 500), "2007_000003": (500, 400)}
    for folder in ("VOC/JPEGImages", "VOC/SegmentationClassAug", "ids"):
        (tmp_path / folder).mkdir(parents=True)
    for seed, (name, (width, height)) in enumerate(sizes.items()):
        mask = blobs(height, width, seed, [0, 8, 15])
        photo = np.repeat(mask[:, :, None], 3, axis=2) // 2
        Image.fromarray(photo).save(tmp_path / "VOC" / "JPEGImages" / f"{name}.jpg", quality=95)
        Image.fromarray(mask).save(tmp_path / "VOC" / "SegmentationClassAug" / f"{name}.png")
    (tmp_path / "ids" / "train.txt").write_text("2007_000001\n")
    (tmp_path / "ids" / "val.txt").write_text("2007_000002\n")
    return tmp_path


def test_made_from_a_voc_tree(voc):
    words = "--data-root", voc / "VOC", "--ids", voc / "ids", "--output", voc / "out"
    done = make_data(*words)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "wrote 1 photographs with scribbles, on 2." in done.stdout or "on 3." in done.stdout
    assert f"and 1 with masks into {voc / 'out'}" in done.stdout and "squeezenet_v1.0.caffemodel" in done.stdout
    files = sorted(path.relative_to(voc / "out").as_posix() for path in (voc / "out").rglob("*") if path.is_file())
    lists = ["list/train.txt", "list/train_full.txt", "list/train_id.txt", "list/val.txt", "list/val_id.txt"]
    photos = ["JPEGImages/2007_000001.jpg", "JPEGImages/2007_000002.jpg"]
    masks = ["SegmentationClassAug/2007_000001.png", "SegmentationClassAug/2007_000002.png"]
    scribbles = "pascal_2012_scribble/2007_000001.png"
    assert files == [*photos, *masks, *lists, scribbles]
    assert (voc / "out" / lists[0]).read_text() == f"{photos[0]} {scribbles}\n"
    assert (voc / "out" / lists[1]).read_text() == f"{photos[0]} {masks[0]}\n"
    assert (voc / "out" / lists[3]).read_text() == f"{photos[1]} {masks[1]}\n"
    for photo, mask, shape in zip(photos, masks, [(240, 320), (320, 213)]):
        small, large = (read_label(voc / folder / mask) for folder in ("out", "VOC"))
        assert read_image(voc / "out" / photo).shape == (*shape, 3) and small.shape == shape
        # The middle of each pixel of the small grid, in the large one.
        rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(shape, large.shape))
        assert (small == large[rows][:, columns]).mean() > 0.99
    drawn = read_label(voc / "out" / scribbles)
    assert (drawn == read_label(voc / "out" / masks[0]))[drawn != 255].all()
    before = {path: (voc / "out" / path).read_bytes() for path in files}
    assert make_data(*words).returncode == 0
    assert before == {path: (voc / "out" / path).read_bytes() for path in files}


def test_what_is_missing_is_said_before_anything_is_made(voc):
    words = "--data-root", voc / "VOC", "--output", voc / "out"
    done = make_data(*words)
    assert done.returncode == 1 and not (voc / "out").exists()
    assert done.stderr.startswith("make_data: 1500 of 1500 files are missing, such as ")
    assert len(done.stderr.splitlines()) == 1 and "rloss-caffe fetch" in done.stderr
    done = make_data("--data-root", voc / "VOC", "--output", voc / "out", "--ids", voc)
    assert done.returncode == 1 and "train.txt" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_damaged_photograph_is_named(voc):
    path = voc / "VOC" / "JPEGImages" / "2007_000001.jpg"
    path.write_bytes(path.read_bytes()[:-2000])
    done = make_data("--data-root", voc / "VOC", "--ids", voc / "ids", "--output", voc / "out")
    assert done.returncode == 1 and str(path) in done.stderr and len(done.stderr.splitlines()) == 1


def test_other_masks_are_named(voc):
    path = voc / "VOC" / "SegmentationClassAug" / "2007_000001.png"
    mask = read_label(path)
    Image.fromarray(np.where(mask == 8, np.uint8(3), mask)).save(path)
    words = "--data-root", voc / "VOC", "--ids", voc / "ids", "--output", voc / "out"
    done = make_data(*words)
    assert done.returncode == 0 and "1 masks hold other classes, such as 2007_000001" in done.stderr
    Image.fromarray(mask[:-1]).save(path)
    done = make_data(*words)
    assert done.returncode == 1 and "is 500 x 374, its photograph 500 x 375" in done.stderr


def test_the_studys_ids():
    train, val = ((FOLDER / "ids" / f"{name}.txt").read_text().split() for name in ("train", "val"))
    assert len(set(train)) == len(train) == 600 and len(set(val)) == len(val) == 150 and not set(train) & set(val)
    assert train == shared_path("voc_mini/list/train_id.txt").read_text().split()
    assert val == shared_path("voc_mini/list/val_id.txt").read_text().split()
