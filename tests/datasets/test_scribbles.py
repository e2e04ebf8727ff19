"""Strokes of a true width, and ScribbleSup's XML files made into label maps by ``rloss-caffe scribbles``."""

import subprocess
import sys
import time

import numpy as np
import pytest

from rloss_caffe.datasets import scribbles
from rloss_caffe.datasets.strokes import draw_polyline
from rloss_caffe.datasets.voc import CLASSES

Image = pytest.importorskip("PIL.Image", reason="label maps are written with Pillow")


def drawn(points, width=3, size=(60, 80)):
    label = np.full(size, 255, np.uint8)
    draw_polyline(label, points, 7, width)
    assert set(np.unique(label)) <= {7, 255}
    return label == 7


def test_strokes_along_rows_and_columns_have_the_very_width():
    for width in (1, 3, 5):
        radius = width // 2
        row, column = drawn([(20, 30), (50, 30)], width), drawn([(40, 10), (40, 45)], width)
        assert (row[:, 20:51].sum(0) == width).all() and row[30 - radius : 31 + radius, 20:51].all()
        assert (column[10:46].sum(1) == width).all()
        assert row[:, : 20 - radius].sum() == row[:, 51 + radius :].sum() == 0
    assert drawn([(20, 30), (50, 30)]).sum() == 33 * 3


def test_slanted_strokes_have_the_width_on_average():
    shares = []
    for angle in np.radians(np.arange(0, 180, 3)):
        direction = np.array([np.cos(angle), np.sin(angle)])
        label = drawn([(100, 100) - 80 * direction, (100, 100) + 80 * direction], size=(201, 201))
        y, x = np.nonzero(label)
        across = np.abs((x - 100) * direction[1] - (y - 100) * direction[0])
        assert across.max() <= 1.5 + 0.72  # the ends are rounded to whole pixels, at most 0.71 away
        inner = np.abs((x - 100) * direction[0] + (y - 100) * direction[1]) <= 60
        shares.append(inner.sum() / 120)
    assert 2.95 < np.mean(shares) < 3.1
    # Along the diagonal pixels come in steps of 0.71: five of them are within 1.5 of the line, for 3.5 pixels.
    assert max(shares) < 3.6 and min(shares) > 2.6


def test_strokes_are_what_brute_force_says():
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:40, :50]
    for width in (1, 2, 3, 4.5):
        points = rng.randint(-10, 60, (6, 2))
        nearest = np.full(x.shape, np.inf)
        for a, b in zip(points[:-1], points[1:]):
            along = np.linspace(0, 1, 20001)[:, np.newaxis]
            sample = a + along * (b - a)
            for px, py in sample[np.unique(np.round(along * 4000).astype(int) * 5)]:
                np.minimum(nearest, (x - px) ** 2 + (y - py) ** 2, out=nearest)
        distance = np.sqrt(nearest)
        sure = np.abs(distance - width / 2) > 0.02  # the samples of the line are that far apart
        assert ((drawn(points, width, (40, 50)) == (distance <= width / 2)) | ~sure).all()


def test_points_and_what_is_outside():
    dot = drawn([(10, 20)])
    assert dot.sum() == 9 and dot[19:22, 9:12].all()
    assert (drawn([(10, 20), (10, 20)]) == dot).all()
    assert (drawn([(10.4, 19.5)]) == dot).all()
    assert drawn([(0, 0)]).sum() == 4 and drawn([(-5, -5)]).sum() == 0
    across = drawn([(-1000, 30), (1000, 30)])
    assert across.sum() == 3 * 80
    for points, message in ([[], "at least one"], [[(np.nan, 1)], "nan"], [[(1, 1e7)], "10000000.0"]):
        with pytest.raises(ValueError, match=message):
            drawn(points)


def test_the_drawing_is_fast():
    label = np.full((500, 500), 255, np.uint8)
    points = np.random.RandomState(0).randint(0, 500, (2000, 2))
    draw_polyline(label, points[:3], 1)  # compiles
    start = time.perf_counter()
    draw_polyline(label, points, 1)
    assert time.perf_counter() - start < 20


# --- XML -------------------------------------------------------------------------------------------------------------


def xml(*strokes, name="a", size=(80, 60)):
    text = "".join(
        f"<polygon><tag>{tag}</tag>" + "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points) + "</polygon>"
        for tag, points in strokes
    )
    written = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{name}.jpg</filename>{written}{text}</annotation>"


def convert(folder, *options, **files):
    for name, content in files.items():
        path = folder / f"{name}.xml"
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    command = [sys.executable, "-m", "rloss_caffe", "scribbles", "--output", str(folder / "png"), str(folder)]
    command += map(str, options)
    return subprocess.run(command, capture_output=True, text=True)


def read(folder, name="a"):
    with Image.open(folder / "png" / f"{name}.png") as image:
        assert image.mode == "L"
        return np.array(image)


def test_conversion(tmp_path):
    strokes = [("background", [(5, 5), (70, 5)]), ("person", [(10, 10), (40, 40)]), ("dog", [(40, 10), (10, 40)])]
    plant = [("potted plant", [(30, 30)]), ("TV/Monitor", [(78, 58), (200, 58)]), ("table", [(-5, 20), (5, 20)])]
    result = convert(tmp_path, a=xml(*strokes), b=xml(*plant, name="b"))
    assert result.returncode == 0, result.stderr
    assert "2 label maps" in result.stdout and "0 files were wrong" in result.stdout
    expected = np.full((60, 80), 255, np.uint8)
    for value, (_, points) in zip((0, 15, 12), strokes):
        draw_polyline(expected, points, value)
    assert (read(tmp_path) == expected).all()
    assert expected[25, 25] == 12  # the later stroke where two cross
    second = read(tmp_path, "b")
    assert set(np.unique(second)) == {16, 20, 11, 255}
    assert (second == 16).sum() == 9 and (second[57:60, 77:] == 20).all() and (second[19:22, :7] == 11).all()


def test_every_class(tmp_path):
    strokes = [(name, [(3 + 3 * label, 30)]) for label, name in enumerate(CLASSES)]
    assert convert(tmp_path, a=xml(*strokes)).returncode == 0
    assert (read(tmp_path)[30, 3:66:3] == np.arange(21)).all()


LETTERS = "abcdefghijklmnopqrstuvwxyz"
ENTITIES = "".join(f'<!ENTITY {b} "{10 * f"&{a};"}">' for a, b in zip(LETTERS, LETTERS[1:]))
BOMB = (
    f'<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]>'
    "<annotation><filename>&z;</filename><size><width>9</width><height>9</height></size></annotation>"
)
FILE = '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/hostname">]>' + xml(("dog", [(1, 1)])).replace("a.jpg", "&f;")
DOG = ("dog", [(1, 1)])


@pytest.mark.parametrize(
    "content, message",
    [
        (xml(("unicorn", [(1, 1)])), "stroke 1 has the unknown class 'unicorn'; known are background, aeroplane"),
        (xml(DOG, ("", [(1, 1)])), "stroke 2 has the unknown class ''"),
        (xml(DOG, ("cat", [])), r"stroke 2 \(cat\) has no points"),
        (xml(("dog", [("x", 1)])), "stroke 1: <X> must be a number, found 'x'"),
        (xml(("dog", [(1, "nan")])), "<Y> must be a number, found 'nan'"),
        (xml(("dog", [(1, 1e300)])), "cannot be meant"),
        (xml(), "no <polygon>"),
        ("", "it is empty"),
        (xml(DOG)[:-5], "no valid XML"),
        (xml(DOG, name="b"), r"another image, 'b.jpg'"),
        (xml(DOG, size=None), "no <size>.*--images"),
        (xml(DOG, size=(10**9, 10)), "whole numbers from 1 to 20000"),
        (xml(DOG, size=(0, 10)), "whole numbers from 1"),
        pytest.param(BOMB, "DOCTYPE", id="bomb"),
        (BOMB.replace('"1.0"?', '"1.0" encoding="UTF-16"?').encode("utf-16"), "DOCTYPE"),
        (FILE, "DOCTYPE"),
        pytest.param(b"<annotation>" + b" " * 10_000_001, "more than 10000000 bytes", id="large"),
        (b'<?xml version="1.0" encoding="nonsense"?><annotation/>', "no valid XML"),
        pytest.param("<a>" * 100_000 + "</a>" * 100_000, "no <size>|no valid XML", id="deep"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, message):
    (tmp_path / "a.xml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        scribbles.convert(tmp_path / "a.xml")
    assert str(error.value).startswith(str(tmp_path / "a.xml"))


def test_the_origin(tmp_path):
    """The authors' MATLAB counted from 1: the centre of the top-left pixel is then (1, 1)."""
    assert convert(tmp_path, a=xml(("dog", [(11, 21)]))).returncode == 0
    assert read(tmp_path)[21, 11] == 12 and (read(tmp_path) == 12).sum() == 9
    from_0 = np.roll(read(tmp_path), (-1, -1), (0, 1))
    assert convert(tmp_path, "--origin", 1).returncode == 0
    assert (read(tmp_path) == from_0).all()
    assert "invalid choice" in convert(tmp_path, "--origin", 2).stderr


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning(tmp_path, encoding):
    assert convert(tmp_path, a=xml(DOG).encode(encoding)).returncode == 0
    assert (read(tmp_path) == 12).sum() == 9


def test_strokes_of_images_that_are_to_be_turned(tmp_path):
    """Label maps go with the pixels as they are stored, as images are read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (80, 60)).save(tmp_path / "a.jpg", exif=exif)
    assert convert(tmp_path, "--images", tmp_path, a=xml(DOG, size=None)).returncode == 0
    assert read(tmp_path).shape == (60, 80)


def test_wrong_files_do_not_stop_the_others(tmp_path):
    result = convert(tmp_path, a=xml(DOG), b=xml(("unicorn", [(1, 1)]), name="b"), c=BOMB)
    assert result.returncode == 1
    assert "1 label maps" in result.stdout and "2 files were wrong" in result.stdout
    assert str(tmp_path / "b.xml") in result.stderr and str(tmp_path / "c.xml") in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in (tmp_path / "png").iterdir()] == ["a.png"]


def test_sizes_of_images(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.jpg")
    Image.new("RGB", (81, 60)).save(tmp_path / "b.jpg")
    files = {"a": xml(DOG, size=None), "b": xml(DOG, name="b"), "c": xml(DOG, name="c")}
    result = convert(tmp_path, "--images", tmp_path, **files)
    assert result.returncode == 1 and read(tmp_path).shape == (60, 80)
    assert "<size> is 80 x 60, " in result.stderr and "b.jpg has 81 x 60 pixels" in result.stderr
    assert "c.jpg" in result.stderr


def test_usage_errors(tmp_path):
    assert "there are no .xml files" in convert(tmp_path).stderr
    assert "--width is in pixels" in convert(tmp_path, "--width", 0, a=xml(DOG)).stderr
    assert "several files would become a.png" in convert(tmp_path, tmp_path / "a.xml").stderr
