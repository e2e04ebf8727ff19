"""A folder of photographs and strokes: listing, label maps, the list, and what must never get out of it or be lost."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

for module in ("PIL", "cv2"):
    pytest.importorskip(module, reason="photographs and label maps are read with it")

from helpers.paths import ROOT  # noqa: E402
from hypothesis import HealthCheck, example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from rloss_caffe.data.lists import read_list  # noqa: E402
from rloss_caffe.data.palette import voc_palette  # noqa: E402
from rloss_caffe.data.reading import read_label  # noqa: E402
from rloss_caffe.drawing.folder import Folder  # noqa: E402

CLASSES = ["background", "cat", "dog"]


def photograph(path, size=(6, 9), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(len(path.name)).randint(0, 256, (*size, 3)).astype(np.uint8)
    ending = str(path).rpartition(".")[2].lower()  # of "..png", too, which pathlib says has none
    Image.fromarray(pixels).convert(mode).save(path, {"jpg": "jpeg"}.get(ending, ending), **options)
    return pixels


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.jpg", "c.JPEG"):
        photograph(tmp_path / "JPEGImages" / name)
    (tmp_path / "JPEGImages" / "notes.txt").write_text("none")
    return Folder(tmp_path, CLASSES)


def a_stroke(size=(6, 9), value=1):
    labels = np.full(size, 255, np.uint8)
    labels[2, 3:6] = value
    return labels


def test_photographs_are_found_and_read_as_stored(folder, tmp_path):
    assert folder.names == ["a", "b", "c"] and folder.progress() == (0, 3) and not folder.problems
    pixels = photograph(tmp_path / "JPEGImages" / "b.png")
    np.testing.assert_array_equal(folder.photo("b"), pixels)
    assert folder.size("b") == (6, 9)


def test_photographs_may_lie_in_the_folder_itself(tmp_path):
    photograph(tmp_path / "one.jpg")
    folder = Folder(tmp_path, CLASSES)
    folder.save_labels("one", a_stroke())
    (entry,) = read_list(folder.write_list(), str(tmp_path))
    assert (entry.image, entry.label) == (f"{tmp_path}/one.jpg", f"{tmp_path}/pascal_2012_scribble/one.png")


def test_what_is_drawn_is_listed_and_kept(folder, tmp_path):
    folder.save_labels("b", a_stroke(value=2))
    folder.save_labels("c", a_stroke())
    entries = read_list(folder.write_list(), str(tmp_path))
    assert [os.path.basename(entry.image) for entry in entries] == ["b.png", "c.JPEG"]
    with Image.open(entries[0].label) as stored:
        assert stored.mode == "P" and stored.getpalette() == voc_palette().ravel().tolist()
    again = Folder(tmp_path)  # knows the classes
    assert again.classes == CLASSES and again.progress() == (2, 3) and again.has_labels("c")
    np.testing.assert_array_equal(again.load_labels("b"), a_stroke(value=2))
    assert (again.load_labels("a") == 255).all()
    before = again.version("b")
    again.save_labels("b", np.full((6, 9), 255))  # all is erased
    assert again.progress() == (1, 3) and not again.has_labels("b") and again.version("b") != before
    (entry,) = read_list(again.write_list(), str(tmp_path))
    assert os.path.basename(entry.image) == "c.JPEG"


def test_two_programs_in_one_folder_lose_no_line(folder, tmp_path):
    other = Folder(tmp_path, CLASSES)

    def listed(by):
        return [os.path.basename(entry.image) for entry in read_list(by.write_list(), str(tmp_path))]

    other.save_labels("c", a_stroke())
    other.save_labels("a", a_stroke())
    other.write_list()
    folder.save_labels("b", a_stroke())
    assert listed(folder) == ["a.jpg", "b.png", "c.JPEG"] == listed(other)
    folder.save_labels("a", np.full((6, 9), 255, np.uint8))
    assert listed(other) == ["b.png", "c.JPEG"] == listed(folder)
    Image.fromarray(np.full((6, 9), 255, np.uint8)).save(other.label_path("a"))  # nothing is labelled in it
    other.load_labels("a")
    assert listed(other) == ["b.png", "c.JPEG"]
    folder.save_labels("a", a_stroke())
    folder.save_labels("c", np.full((6, 9), 255, np.uint8))
    assert listed(folder) == ["a.jpg", "b.png"]
    other.save_labels("c", a_stroke())
    assert listed(folder) == ["a.jpg", "b.png", "c.JPEG"]


def test_other_lines_of_a_list_stay(folder, tmp_path):
    (tmp_path / "list").mkdir()
    (tmp_path / "list/train.txt").write_text(
        "/others/x.jpg /others/x.png\nJPEGImages/a.jpg pascal_2012_scribble/a.png\n"
    )
    folder.save_labels("b", a_stroke())
    with open(folder.write_list()) as file:
        assert file.read().split("\n") == [
            "/others/x.jpg /others/x.png", "JPEGImages/b.png pascal_2012_scribble/b.png", ""
        ]  # fmt: skip


@pytest.mark.parametrize("name", ["../a", "a.jpg", "", "/etc/passwd", "..", "A", None, 3, ["a"], "a\0", "notes"])
def test_only_names_of_photographs_are_taken(folder, name):
    for call in (folder.photo, folder.load_labels, folder.size, folder.is_turned, folder.label_path, folder.version):
        with pytest.raises(ValueError, match="there is no photograph"):
            call(name)
    with pytest.raises(ValueError, match="there is no photograph"):
        folder.save_labels(name, a_stroke())


def test_links_do_not_lead_out(tmp_path):
    outside = tmp_path / "outside"
    photograph(outside / "secret.png")
    inside = tmp_path / "inside"
    photograph(inside / "JPEGImages" / "a.png")
    (inside / "JPEGImages" / "linked.png").symlink_to(outside / "secret.png")
    (inside / "JPEGImages" / "twin.png").symlink_to("a.png")
    folder = Folder(inside, CLASSES)
    assert folder.names == ["a", "twin"] and "leads out of the folder" in folder.problems[0]
    folder.save_labels("a", a_stroke())
    os.unlink(folder.label_path("a"))
    os.symlink(outside / "secret.png", folder.label_path("a"))
    with pytest.raises(ValueError, match="leads out of the folder"):
        folder.load_labels("a")
    before = (outside / "secret.png").read_bytes()
    folder.save_labels("a", a_stroke())  # takes the link's place
    assert (outside / "secret.png").read_bytes() == before and not os.path.islink(folder.label_path("a"))
    os.unlink(inside / "JPEGImages" / "a.png")  # later than it was listed
    os.symlink(outside / "secret.png", inside / "JPEGImages" / "a.png")
    with pytest.raises(ValueError, match="leads out of the folder"):
        folder.photo("a")
    for name in ("JPEGImages", "pascal_2012_scribble", "list"):
        other = tmp_path / f"with_{name}"
        other.mkdir()
        (other / name).symlink_to(outside)
        with pytest.raises(ValueError, match=f"{name} is a link that leads out"):
            Folder(other, CLASSES)


def test_two_photographs_of_one_name_are_told(tmp_path):
    photograph(tmp_path / "a.jpg")
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "b\n.png")
    photograph(tmp_path / " c.png")
    folder = Folder(tmp_path, CLASSES)
    assert folder.names == ["a"] and len(folder.problems) == 3
    assert any("a.png is left out: a.jpg has the same name" in line for line in folder.problems)


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.full((9, 6), 255), "shape"),
        (a_stroke(value=3), "found 3: the classes are background, cat, dog"),
        (a_stroke().astype(float) + 0.5, "whole numbers"),
        (a_stroke().astype(int) + 1, "whole numbers from 0 to 255"),
        ("text", "labels"),
    ],
)
def test_wrong_label_maps_are_not_saved(folder, labels, message):
    folder.save_labels("a", a_stroke())
    with pytest.raises(ValueError, match=message):
        folder.save_labels("a", labels)
    np.testing.assert_array_equal(folder.load_labels("a"), a_stroke())


def test_label_maps_of_others(folder, tmp_path):
    labels = tmp_path / "pascal_2012_scribble"
    labels.mkdir()
    Image.fromarray(a_stroke(value=2)).save(labels / "a.png")  # grey
    Image.fromarray(a_stroke((5, 9))).save(labels / "b.png")
    Image.fromarray(a_stroke(value=7)).save(labels / "c.png")
    folder.refresh()
    np.testing.assert_array_equal(folder.load_labels("a"), a_stroke(value=2))
    with pytest.raises(ValueError, match="has 9 x 5 pixels, its photograph 9 x 6"):
        folder.load_labels("b")
    with pytest.raises(ValueError, match="found 7"):
        folder.load_labels("c")
    (labels / "a.png").write_bytes((labels / "a.png").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"could not open or decode the label map .*a\.png"):
        folder.load_labels("a")


XML = """<annotation><filename>{name}</filename><size><width>9</width><height>6</height></size>
<polygon><tag>{tag}</tag><point><X>1</X><Y>2</Y></point><point><X>7</X><Y>2</Y></point></polygon></annotation>"""


def test_strokes_of_scribblesup_get_the_folders_numbers(folder, tmp_path):
    place = tmp_path / "scribble_annotation/pascal_2012"
    place.mkdir(parents=True)
    (place / "a.xml").write_text(XML.format(name="a.jpg", tag="dog"))
    (place / "b.xml").write_text(XML.format(name="b.png", tag="sheep"))
    labels = folder.load_labels("a")
    assert set(np.unique(labels)) == {2, 255} and labels[2, 4] == 2
    assert folder.progress() == (1, 3)
    np.testing.assert_array_equal(read_label(folder.label_path("a")), labels)
    with pytest.raises(ValueError, match="has the class sheep; the folder has background, cat, dog"):
        folder.load_labels("b")


def test_classes_keep_their_numbers(folder, tmp_path):
    folder.save_labels("a", a_stroke())
    assert Folder(tmp_path, [*CLASSES, "cow"]).classes == [*CLASSES, "cow"]
    with pytest.raises(ValueError, match="only be added at the end"):
        Folder(tmp_path, ["background", "dog", "cat"])
    for wrong in ([], [""], ["a", "a"], ["x,y"], ["\n."], ["k"] * 300):
        with pytest.raises(ValueError, match="class"):
            Folder(tmp_path, wrong)


def test_errors_are_told(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        Folder(tmp_path / "none", CLASSES)
    with pytest.raises(ValueError, match="there is no photograph"):
        Folder(tmp_path, CLASSES)
    photograph(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="must be said the first time"):
        Folder(tmp_path)


@pytest.mark.parametrize("mode, ending", [("L", "png"), ("P", "png"), ("RGBA", "png"), ("1", "png"), ("CMYK", "jpg")])
def test_photographs_of_every_mode(tmp_path, mode, ending):
    photograph(tmp_path / f"x.{ending}", mode=mode)
    folder = Folder(tmp_path, CLASSES)
    pixels = folder.photo("x")
    assert pixels.shape == (6, 9, 3) and pixels.dtype == np.uint8 and pixels.std() > 20
    assert folder.size("x") == (6, 9) and not folder.is_turned("x")


def test_16_bits_become_8(tmp_path):
    deep = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(Folder(tmp_path, CLASSES).photo("deep")[:, :, 1], deep >> 8, atol=1)


def test_photographs_that_are_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path / "turned.jpg", exif=exif)
    folder = Folder(tmp_path, CLASSES)
    assert folder.is_turned("turned") and folder.size("turned") == folder.photo("turned").shape[:2] == (6, 9)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_photographs_that_are_cut_off(tmp_path, ending):
    photograph(tmp_path / f"cut.{ending}", (200, 300))
    data = (tmp_path / f"cut.{ending}").read_bytes()
    folder = Folder(tmp_path, CLASSES)
    for length in (0, 10, len(data) // 2):
        (tmp_path / f"cut.{ending}").write_bytes(data[:length])
        with pytest.raises(ValueError, match=rf"the image .*cut\.{ending}") as error:
            folder.photo("cut")
        assert "\n" not in str(error.value)


NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12).filter(
    lambda name: "/" not in name and "\0" not in name and len(name.encode()) < 200
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example(names=["."], seed=0, ending=".png", below="JPEGImages")
@given(
    names=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**31 - 1),
    ending=st.sampled_from([".png", ".jpg", ".JPG"]),
    below=st.sampled_from(["JPEGImages", "."]),
)
def test_any_name_and_label_map_round_trip(tmp_path_factory, names, seed, ending, below):
    root = tmp_path_factory.mktemp("any")
    for name in names:
        photograph(root / below / f"{name}{ending}")
    rng = np.random.RandomState(seed)
    try:
        folder = Folder(root, [f"class {k}" for k in range(255)])
    except ValueError as error:
        assert "there is no photograph" in str(error)
        return
    assert len(folder.names) + len(folder.problems) >= len([name for name in names if not name.startswith(".")])
    maps = {name: rng.randint(0, 256, (6, 9)).astype(np.uint8) for name in folder.names}
    for name, labels in maps.items():
        folder.save_labels(name, labels)
    entries = read_list(folder.write_list(), str(root))
    assert [os.path.realpath(entry.image) for entry in entries] == [folder.photo_path(name) for name in folder.names]
    again = Folder(root)
    assert again.progress() == (len(maps), len(maps))
    for entry, (name, labels) in zip(entries, maps.items()):
        np.testing.assert_array_equal(again.load_labels(name), labels)
        np.testing.assert_array_equal(read_label(entry.label), labels)


SAVING = """
import sys
import numpy as np
from rloss_caffe.drawing.folder import Folder
folder = Folder(sys.argv[1], ["background", "cat", "dog"])
labels = np.random.RandomState(0).randint(0, 3, (400, 600))
for step in range(1_000_000):
    labels[0] = step % 3
    folder.save_labels("a", labels)
    folder.write_list()
    print(step, flush=True)
"""


def test_a_kill_leaves_no_half_label_map(tmp_path):
    """A real process is killed at random moments while it saves, again and again."""
    photograph(tmp_path / "a.png", (400, 600))
    expected = np.random.RandomState(0).randint(0, 3, (400, 600))
    rng = random.Random(1)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(8):
        command = [sys.executable, "-c", SAVING, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdout.readline() == "0\n"
        start = time.perf_counter()
        assert process.stdout.readline() == "1\n"
        time.sleep(rng.uniform(0, 2 * (time.perf_counter() - start)))  # anywhere in the next two savings
        process.kill()
        last = int((process.stdout.read().split() or [1])[-1])
        process.wait()
        labels = Folder(tmp_path).load_labels("a")
        np.testing.assert_array_equal(labels[1:], expected[1:])
        assert len(set(labels[0])) == 1 and labels[0, 0] in (last % 3, (last + 1) % 3)
        assert len(read_list(tmp_path / "list/train.txt", str(tmp_path))) == 1


def test_many_photographs_are_listed_without_a_look_into_them(tmp_path):
    """The files are no pictures at all: whoever opened one would fail."""
    for number in range(10_000):
        (tmp_path / f"{number:05}.jpg").touch()
    folder = Folder(tmp_path, CLASSES)
    assert folder.progress() == (0, 10_000) and folder.names[9_999] == "09999"
