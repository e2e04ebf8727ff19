"""``rloss-caffe lists`` and ``rloss-caffe check`` on small trees that the tests write."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT, shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
pytest.importorskip("cv2", reason="images are read with OpenCV")

from rloss_caffe.data.lists import read_list  # noqa: E402
from rloss_caffe.datasets.voc import CLASSES, palette  # noqa: E402
from rloss_caffe.pictures import contact_sheet  # noqa: E402
from rloss_caffe.pictures.overlays import draw_mask, draw_scribbles, is_scribble  # noqa: E402

TRAIN, VAL = ["2007_000001", "2007_000003", "2008_000002", "2009_000005"], ["2007_000002", "2007_000004"]
FOLDERS = ["JPEGImages", "SegmentationClassAug", "pascal_2012_scribble"]


def run(tool, *arguments, cwd=None):
    command = [sys.executable, "-m", "rloss_caffe", tool, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def tree(tmp_path):
    """A complete VOC tree: four training images, two validation images, one image without a mask."""
    root = tmp_path / "voc"
    for folder in FOLDERS + ["ImageSets/Segmentation"]:
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(VAL) + "\n")
    rng = np.random.RandomState(0)
    for number, name in enumerate(TRAIN + VAL + ["2010_000009"]):
        height, width = 30 + number, 40
        picture = rng.randint(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg")
        if name not in TRAIN + VAL:
            continue
        mask = np.zeros((height, width), np.uint8)
        mask[5:20, 5:20], mask[20, 5:20] = 15, 255
        save(root / "SegmentationClassAug" / f"{name}.png", mask)
        scribble = np.full((height, width), 255, np.uint8)
        scribble[2, 1:11], scribble[10, 6:11] = 0, 15
        save(root / "pascal_2012_scribble" / f"{name}.png", scribble)
    return root


def save(path, label):
    Image.fromarray(label).save(path)


def make(root, *options):
    output = root.parent / "list"
    return run("lists", "--data-root", root, "--output", output, *options), output


def lines(path):
    return path.read_text().splitlines()


def test_lists_of_a_complete_tree(tree):
    result, output = make(tree)
    assert result.returncode == 0, result.stdout + result.stderr
    scribbles = [f"JPEGImages/{name}.jpg pascal_2012_scribble/{name}.png" for name in TRAIN]
    masks = [f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png" for name in TRAIN]
    assert lines(output / "train.txt") == scribbles
    assert lines(output / "train_full.txt") == lines(output / "train_aug.txt") == masks
    assert lines(output / "val.txt") == [f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png" for name in VAL]
    assert lines(output / "train_id.txt") == TRAIN and lines(output / "val_id.txt") == VAL
    assert sorted(path.name for path in output.iterdir()) == sorted(
        ["train.txt", "train_full.txt", "train_aug.txt", "val.txt", "train_id.txt", "val_id.txt"]
    )
    assert "train.txt: 4 images" in result.stdout
    assert len(read_list(output / "train.txt", str(tree))) == 4  # the data layer takes it


def break_missing_image(root, name):
    (root / "JPEGImages" / f"{name}.jpg").unlink()


def break_missing_label(root, name):
    (root / "pascal_2012_scribble" / f"{name}.png").unlink()


def break_truncated_image(root, name):
    path = root / "JPEGImages" / f"{name}.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def break_truncated_label(root, name):
    path = root / "pascal_2012_scribble" / f"{name}.png"
    path.write_bytes(path.read_bytes()[:60])


def break_size(root, name):
    save(root / "pascal_2012_scribble" / f"{name}.png", np.zeros((31, 41), np.uint8))


def break_value(root, name):
    change(root, name, lambda label: np.where(label == 15, 21, label).astype(np.uint8))


def break_unlabelled(root, name):
    change(root, name, lambda label: np.full_like(label, 255))


def break_colours(root, name):
    change(root, name, lambda label: np.repeat(label[:, :, np.newaxis], 3, axis=2))


def change(root, name, function):
    path = root / "pascal_2012_scribble" / f"{name}.png"
    with Image.open(path) as image:
        label = np.array(image)
    save(path, function(label))


@pytest.mark.parametrize(
    "break_file, kind, text, lists",
    [
        (break_missing_image, "missing image", "no such file", 3),
        (break_missing_label, "missing label", "no such file", 1),
        (break_truncated_image, "unreadable image", "this JPEG is cut off before its end", 3),
        (break_truncated_label, "unreadable label", "could not open or decode", 1),
        (break_size, "sizes differ", "40 x 31 pixels, pascal_2012_scribble/2007_000003.png has 41 x 31", 1),
        (break_value, "wrong label value", "the values 21; allowed are 0 to 20 and 255", 1),
        (break_unlabelled, "nothing labelled", "nothing but 255", 1),
        (break_colours, "unreadable label", "must have one channel", 1),
    ],
)
def test_what_is_wrong_is_told_and_can_be_left_out(tree, break_file, kind, text, lists):
    name = TRAIN[1]
    break_file(tree, name)
    result, output = make(tree)
    assert result.returncode == 1 and f"{lists} x {kind}" in result.stdout and "Traceback" not in result.stderr
    assert "train.txt, line 2: " in result.stdout and text in result.stdout
    assert [path.name for path in output.iterdir()] == ["problems.txt"]
    problems = lines(output / "problems.txt")
    assert len(problems) == lists and all(line.startswith(f"{kind}\t") and name in line for line in problems)

    result, output = make(tree, "--skip-missing")
    assert result.returncode == 0
    assert lines(output / "train_id.txt") == [other for other in TRAIN if other != name]
    assert [line.split()[0] for line in lines(output / "train_full.txt")] == [
        line.split()[0] for line in lines(output / "train.txt")
    ]
    assert len(lines(output / "train_aug.txt")) == (3 if lists == 3 else 4)
    assert len(lines(output / "val.txt")) == 2


def test_a_folder_that_is_missing_and_a_long_report(tree):
    for path in (tree / "pascal_2012_scribble").iterdir():
        path.unlink()
    (tree / "pascal_2012_scribble").rmdir()
    names = [f"2011_{number:06}" for number in range(20)]
    (tree.parent / "ids").write_text("\n".join(names + TRAIN))
    result, output = make(tree, "--ids", tree.parent / "ids")
    assert (
        result.returncode == 1 and "no pascal_2012_scribble/" in result.stderr and "rloss-caffe fetch" in result.stderr
    )
    assert "60 x missing image" in result.stdout and "4 x missing label" in result.stdout
    assert "... and 54 more" in result.stdout and result.stdout.count("no such file") == 10
    assert len(lines(output / "problems.txt")) == 64
    result, output = make(tree, "--skip-missing")  # full supervision still works
    assert result.returncode == 0 and "train.txt: 0 images - this list is EMPTY" in result.stdout
    assert len(lines(output / "train_aug.txt")) == 4


def test_a_repaired_tree_leaves_no_old_report(tree):
    path = tree / "pascal_2012_scribble" / f"{TRAIN[0]}.png"
    content = path.read_bytes()
    path.unlink()
    _, output = make(tree)
    assert (output / "problems.txt").exists()
    path.write_bytes(content)
    result, output = make(tree)
    assert result.returncode == 0 and not (output / "problems.txt").exists()


def test_a_mark_in_the_ids_moves_no_validation_image_into_training(tree):
    """Worst with --skip-missing: the marked id had no files, and its image no id that kept it out of training."""
    (tree / "ImageSets/Segmentation/val.txt").write_text("\n".join(VAL) + "\n", encoding="utf-8-sig")
    for options in ((), ("--skip-missing",)):
        result, output = make(tree, *options)
        assert result.returncode == 0
        assert lines(output / "train_id.txt") == TRAIN and lines(output / "val_id.txt") == VAL
    (tree.parent / "ids").write_text(VAL[0], encoding="utf-16")
    assert "1 ids of the validation set" in make(tree, "--ids", tree.parent / "ids")[0].stderr


def test_where_lists_go(tree):
    assert run("lists", "--data-root", tree).returncode == 0
    assert len(lines(tree / "list" / "train.txt")) == len(TRAIN)
    shutil.rmtree(tree / "ImageSets")
    result = run("lists", "--data-root", tree)
    assert result.returncode == 1 and "would be written over: say by --output" in result.stderr
    result, output = make(tree)
    assert result.returncode == 0 and lines(output / "train.txt") == lines(tree / "list" / "train.txt")


def test_chosen_ids(tree):
    ids = tree.parent / "ids.txt"
    ids.write_text(f"{TRAIN[2]}\n\n{TRAIN[0]} 1\n{TRAIN[2]}\n")
    result, output = make(tree, "--ids", ids)
    assert result.returncode == 0 and lines(output / "train_id.txt") == [TRAIN[2], TRAIN[0]]
    ids.write_text(f"{TRAIN[2]}\n{VAL[0]}\n")
    result, _ = make(tree, "--ids", ids)
    assert result.returncode == 1 and f"1 ids of the validation set, the first is {VAL[0]}" in result.stderr


def test_lists_that_are_there_already(tree):
    result, output = make(tree)
    for path in (tree / "ImageSets/Segmentation").iterdir():
        path.unlink()
    (tree / "ImageSets/Segmentation").rmdir()
    (tree / "ImageSets").rmdir()
    (tree / "list").mkdir()
    for name in ("train", "val"):  # with leading slashes, as DeepLab's lists have
        text = "".join(f"/{line.replace(' ', ' /')}\n" for line in lines(output / f"{name}.txt"))
        (tree / "list" / f"{name}.txt").write_text(text)
    copied = tree.parent / "copied"
    result = run("lists", "--data-root", tree, "--output", copied)
    assert result.returncode == 0, result.stderr
    names = ["train.txt", "train_id.txt", "val.txt", "val_id.txt"]
    assert sorted(path.name for path in copied.iterdir()) == names
    assert all(lines(copied / name) == lines(output / name) for name in names)
    (tree / "list" / "odd.txt").write_text("JPEGImages/a.jpg\n")
    result = run("lists", "--data-root", tree, "--output", copied)
    assert result.returncode == 1 and "odd.txt, line 1: expected an image and a label" in result.stderr


def test_unusable_trees(tree, tmp_path):
    assert "is not a folder" in make(tmp_path / "nowhere")[0].stderr
    (tmp_path / "empty").mkdir()
    result, _ = make(tmp_path / "empty")
    assert result.returncode == 1 and "val.txt" in result.stderr and "Traceback" not in result.stderr
    for name in TRAIN:
        (tree / "SegmentationClassAug" / f"{name}.png").unlink()
    assert "no training images" in make(tree)[0].stderr


def test_voc_mini(tmp_path):
    root = shared_path("voc_mini")
    result = run("lists", "--data-root", root, "--output", tmp_path)
    assert result.returncode == 0, result.stdout
    for path in (root / "list").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    result = run("check", tmp_path / "train.txt", "--data-root", root, "--count", 0)
    assert result.returncode == 0
    assert "600 images" in result.stdout
    # The folder's README counts 1,375,521 scribble pixels, and these images of every class.
    table = {words[1]: words for words in map(str.split, result.stdout.splitlines()) if len(words) >= 5}
    rows = [row for name, row in table.items() if row[0].isdigit() and name in CLASSES]
    assert sum(int(row[3]) for row in rows) == 1375521
    assert {row[1]: int(row[2]) for row in rows if row[1] in ("cat", "cow", "dog")} == {
        "cat": 114,
        "cow": 107,
        "dog": 163,
    }


# --- check_dataset ---------------------------------------------------------------------------------------------------


def test_check_and_pictures(tree):
    pytest.importorskip("matplotlib", minversion="3.7")
    _, lists = make(tree)
    result = run("check", lists / "train.txt", "--data-root", tree, "--count", 3, "--output", tree / "a")
    assert result.returncode == 0, result.stderr
    # The fixture draws 15 pixels in each image of 40 x 30 to 40 x 33.
    assert f"4 images, 0.0 million pixels, {100 * 60 / (40 * (30 + 31 + 32 + 33)):.2f} % labelled" in result.stdout
    table = {words[1]: words for words in map(str.split, result.stdout.splitlines()) if len(words) > 3}
    assert table["background"][2:5] == ["4", "40", "66.67"] and table["person"][2:5] == ["4", "20", "33.33"]
    pictures = sorted(path.name for path in (tree / "a").iterdir())
    assert len(pictures) == 4 and pictures[-1] == "contact_sheet.png"
    with Image.open(tree / "a" / "contact_sheet.png") as sheet:
        assert sheet.size[0] == contact_sheet.WIDTH
    name = pictures[0][:-4]
    with Image.open(tree / "a" / pictures[0]) as overlay, Image.open(tree / "JPEGImages" / f"{name}.jpg") as photo:
        overlay, photo = np.array(overlay), np.array(photo)
    assert (overlay[10, 6:11] == palette()[15]).all() and (overlay[2, 1:11] == 0).all()
    assert (overlay[9, 6:11] == 235).all() and np.abs(overlay[25:].astype(int) - photo[25:]).max() <= 2
    again = run("check", lists / "train.txt", "--data-root", tree, "--count", 3, "--output", tree / "b")
    assert again.returncode == 0 and sorted(path.name for path in (tree / "b").iterdir()) == pictures
    other = run("check", lists / "val.txt", "--data-root", tree, "--count", 99, "--output", tree / "c")
    assert other.returncode == 0 and len(list((tree / "c").iterdir())) == 3


def test_check_reports(tree):
    pytest.importorskip("matplotlib", minversion="3.7")
    _, lists = make(tree)
    break_value(tree, TRAIN[2])
    result = run("check", lists / "train.txt", "--data-root", tree, "--count", 0, "--output", tree / "a")
    assert result.returncode == 1 and "1 x wrong label value" in result.stdout and "train.txt, line 3" in result.stdout
    assert "3 images" in result.stdout and (tree / "a" / "problems.txt").exists()
    more = ("--count", 0, "--classes", 22)
    assert run("check", lists / "train.txt", "--data-root", tree, *more).returncode == 0
    result = run("check", tree / "nothing.txt", "--data-root", tree)
    assert result.returncode == 1 and "cannot read the list" in result.stderr


def test_names_of_classes(tree):
    """VOC's only for VOC's images, or if told."""
    shutil.move(tree / "JPEGImages" / f"{TRAIN[0]}.jpg", tree / "mine.jpg")
    (tree / "list.txt").write_text(f"mine.jpg SegmentationClassAug/{TRAIN[0]}.png\n")
    for options, names in (
        ((), ["class 0", "class 15"]),
        (("--names", "voc"), ["background", "person"]),
        (("--names", ",".join(f"my{n}" for n in range(16))), ["my0", "my15"]),
        (("--classes", 16), ["class 0", "class 15"]),
    ):
        result = run("check", "list.txt", "--data-root", ".", "--count", 0, *options, cwd=tree)
        assert result.returncode == 0, result.stderr
        assert all(f"  {name} " in result.stdout for name in names)
    assert (
        "--names has 2 names, --classes says 3"
        in run("check", "list.txt", "--data-root", ".", "--names", "a,b", "--classes", 3, cwd=tree).stderr
    )
    (tree / "classes.txt").write_text("".join(f"own{n}\n" for n in range(16)))  # as rloss-caffe draw writes it
    for options, name in (((), "own15"), (("--names", "voc"), "person"), (("--classes", 21), "class 15")):
        assert f"  {name} " in run("check", "list.txt", "--data-root", ".", "--count", 0, *options, cwd=tree).stdout


def test_nothing_lands_in_the_working_folder_but_in_the_default_place(tree):
    pytest.importorskip("matplotlib", minversion="3.7")
    (tree / "list.txt").write_text(f"JPEGImages/{TRAIN[0]}.jpg SegmentationClassAug/{TRAIN[0]}.png\n")
    before = set(tree.iterdir())
    assert run("check", "list.txt", "--data-root", ".", "--count", 0, cwd=tree).returncode == 0
    assert set(tree.iterdir()) == before
    result = run("check", "list.txt", "--data-root", ".", cwd=tree)
    assert result.returncode == 0 and "wrote rloss_output/check/contact_sheet.png" in result.stderr
    assert set(tree.iterdir()) - before == {tree / "rloss_output"}
    assert (tree / "rloss_output" / ".gitignore").read_text() == "*\n"
    result = run("check", "list.txt", "--data-root", ".", "--output", "new/folder", cwd=tree)
    assert result.returncode == 0 and (tree / "new" / "folder" / "contact_sheet.png").exists()


@pytest.mark.parametrize(
    "script, example",
    [("make_lists", "lists"), ("check_dataset", "check"), ("fetch_data", "fetch"), ("scribbles_to_png", "scribbles")],
)
def test_the_scripts_are_the_subcommands(script, example):
    command = [sys.executable, str(ROOT / "tools" / f"{script}.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0 and f"example: rloss-caffe {example} " in result.stdout


def test_names_in_other_encodings(tree):
    """Latin-1 and GBK in a list, in both commands; what is printed can be printed."""
    pytest.importorskip("matplotlib", minversion="3.7")
    names = ["B\xe4ume".encode("latin-1"), "\u56fe".encode("gbk")]
    for name in names:
        for folder, kind in (("JPEGImages", "jpg"), ("SegmentationClassAug", "png")):
            old = tree / folder / f"{TRAIN[0]}.{kind}"
            shutil.copy(old, os.path.join(os.fsencode(tree / folder), name + b"." + kind.encode()))
    text = b"".join(b"JPEGImages/%s.jpg SegmentationClassAug/%s.png\n" % (name, name) for name in names)
    (tree / "mine").mkdir()
    (tree / "mine" / "train.txt").write_bytes(text)
    result = run("lists", "--data-root", tree, "--from-lists", tree / "mine", "--output", tree / "copied")
    assert result.returncode == 0, result.stderr
    assert (tree / "copied" / "train.txt").read_bytes() == text
    result = run("check", tree / "copied" / "train.txt", "--data-root", tree, "--output", tree / "sheet", "--count", 2)
    assert result.returncode == 0 and "2 images" in result.stdout, result.stderr
    assert len(list((tree / "sheet").iterdir())) == 3
    os.unlink(os.path.join(os.fsencode(tree / "JPEGImages"), names[0] + b".jpg"))
    result = run("check", tree / "copied" / "train.txt", "--data-root", tree, "--output", tree / "sheet", "--count", 0)
    assert result.returncode == 1 and "B\\xe4ume.jpg" in result.stdout and "Traceback" not in result.stderr


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=40))
def test_rows_of_a_contact_sheet_have_no_gaps(sizes):
    rows = contact_sheet.fill_rows(sizes, 1000)
    assert sum(map(len, rows)) == len(sizes)
    for places, row_sizes in zip(rows, np.split(sizes, np.cumsum([len(row) for row in rows])[:-1])):
        assert len({place.height for place in places}) == 1
        assert places[0].left == 0
        for place, following in zip(places, places[1:]):
            assert following.left - place.left - place.width in (
                contact_sheet.GAP - 1,
                contact_sheet.GAP,
                contact_sheet.GAP + 1,
            )
        full = places[-1].left + places[-1].width
        assert full == 1000 or (full < 1000 and places[0].height == 375)
        for place, (width, height) in zip(places, row_sizes):
            expected = place.height * min(max(width / height, 0.5), 6)
            assert abs(place.width - expected) <= 0.01 * expected + 4


def test_overlays():
    rng = np.random.RandomState(0)
    image = rng.randint(0, 256, (20, 30, 3), np.uint8)
    original = image.copy()
    scribble = np.full((20, 30), 255, np.uint8)
    scribble[0, 0:5], scribble[10, 10] = 0, 12
    mask = np.zeros((20, 30), np.uint8)
    mask[:, 15:], mask[:, 14] = 12, 255
    assert is_scribble(scribble) and not is_scribble(mask)
    drawn = draw_scribbles(image, scribble)
    assert (drawn[10, 10] == palette()[12]).all() and (drawn[10, 11] == 235).all() and (drawn[0, :5] == 0).all()
    assert (drawn[15:] == image[15:]).all() and (image == original).all()
    drawn = draw_mask(image, mask, strength=0.5)
    assert (drawn[:, :14] == image[:, :14]).all()
    assert np.abs(drawn[:, 16:] - (image[:, 16:] / 2 + palette()[12] / 2)).max() <= 1
