"""``rloss-caffe show``: the right scores, in the right order, and the sheet shows what it says."""

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.segmentations import HEIGHTS, INPUT, SCORE, WIDTHS, read, write, write_list, write_net

from rloss_caffe.commands import main, show
from rloss_caffe.data.lists import read_list
from rloss_caffe.datasets import voc

Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
pytest.importorskip("cv2", reason="images are read with OpenCV")


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_list(tmp_path)


def expected_iou(prediction, mask, classes=None):
    """Per cent, written out: the mean over the classes in the mask."""
    known = mask != 255
    prediction, mask = prediction[known], mask[known]
    values = [
        ((prediction == k) & (mask == k)).sum() / ((prediction == k) | (mask == k)).sum()
        for k in np.unique(mask)
        if classes is None or k in classes
    ]
    return 100 * np.mean(values)


def prepare(*more, folders=("poor", "good")):
    words = ["--list", "list.txt", "--root", ".", "--names", "voc"]
    words += [word for name in folders for word in ("--prediction", f"{name}={name}")]
    parser = argparse.ArgumentParser()
    show.add_arguments(parser)
    arguments = parser.parse_args([*words, *map(str, more)])
    folders = {source.name: source.folder for source in arguments.sources}
    items = [show.judge(entry, folders) for entry in read_list(arguments.list, arguments.root)]
    return show.Ranking.of(items, arguments), folders, arguments


def draw(*more, **options):
    pytest.importorskip("matplotlib", minversion="3.7")
    figure = show.draw(*prepare(*more, **options))
    figure.canvas.draw()
    return figure


def texts(figure):
    return [text.get_text() for text in figure.texts]


def ids(*more):
    return [item.id for item in prepare(*more)[0].shown]


def test_iou_of_each_image(root):
    ranking = prepare()[0]
    for item in ranking.items:
        for index, name in enumerate(("poor", "good")):
            prediction, mask = read(root / name / f"{item.id}.png"), read(root / "masks" / f"{item.id}.png")
            assert ranking.iou([item], index) == pytest.approx(expected_iou(prediction, mask))
    assert ranking.iou(ranking.items[:1], 1) == 100


def test_iou_of_the_whole_list(root):
    ranking = prepare()[0]
    for index, name in enumerate(("poor", "good")):
        prediction, mask = (
            np.concatenate([read(root / folder / f"im{k}.png").ravel() for k in range(4)]) for folder in (name, "masks")
        )
        assert ranking.iou(ranking.items, index) == pytest.approx(expected_iou(prediction, mask))
        single = [ranking.iou([item], index) for item in ranking.items]
        assert ranking.mean_of_images(index) == pytest.approx(np.mean(single))


def test_order(root):
    assert ids("--order", "best") == ["im0", "im1", "im2", "im3"] and ids() == ["im3", "im2", "im1", "im0"]
    assert ids("--order", "list", "--count", 2) == ["im0", "im1"] and ids("--count", 1) == ["im3"]
    ranking = prepare("--order", "best", "--by", "poor")[0]
    values = [ranking.iou([item], 0) for item in ranking.shown]
    assert values == sorted(values, reverse=True) and values[0] > values[-1]


def test_image_in_which_nothing_counts_is_last(root):
    write(root / "masks" / "im1.png", np.full((HEIGHTS[1], WIDTHS[1]), 255, np.uint8))
    for order in ("worst", "best"):
        ranking = prepare("--order", order)[0]
        assert ranking.shown[-1].id == "im1" and np.isfinite(ranking.mean_of_images(1))
    assert texts(draw()).count("nothing to count") == 2


def test_classes_that_count(root):
    for index in (0, 2):
        mask = read(root / "masks" / f"im{index}.png")
        mask[mask == 12] = 8
        write(root / "masks" / f"im{index}.png", mask)
    ranking = prepare("--classes", "12")[0]
    assert [item.id for item in ranking.shown][:2] == ["im3", "im1"]
    for item in ranking.shown[:2]:
        prediction, mask = (read(root / folder / f"{item.id}.png") for folder in ("good", "masks"))
        assert ranking.iou([item], 1) == pytest.approx(expected_iou(prediction, mask, [12]))
    words = texts(draw("--classes", "dog,cow"))
    assert words.count("no dog or cow in it") == 4  # in two images, for two sources
    assert "IoU in %: mean over dog and cow where the image's label map has them; bold: the best" in words


def test_an_image_without_the_class_says_so(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    words = ["--list", "list.txt", "--root", ".", "--prediction", "a=good", "--names", "voc"]
    assert main(["show", *words, "--classes", "cat"]) == 0
    out = capsys.readouterr().out
    assert out.count("no cat in it") == 5 and "nan" not in out


def test_names_of_classes(root):
    assert prepare()[0].classes == list(voc.CLASSES)
    parser = argparse.ArgumentParser()
    show.add_arguments(parser)

    def classes(*more, sizes=()):
        arguments = parser.parse_args(["--list", "list.txt", "--root", ".", "--prediction", "a=good", *more])
        items = [show.judge(entry, {"a": root / "good"}) for entry in read_list("list.txt", ".")]
        return show.Ranking.of(items, arguments, sizes).classes

    assert classes() == [f"class {k}" for k in range(13)]  # few classes are not VOC's unless that is said
    assert classes(sizes=[21]) == list(voc.CLASSES)  # a net with 21 scores
    assert classes("--names", ",".join("abcdefghijklm")) == list("abcdefghijklm")
    mask = read(root / "masks" / "im0.png")
    mask[0, 0] = 20
    write(root / "masks" / "im0.png", mask)
    assert classes() == list(voc.CLASSES)


def test_sheet(root):
    figure = draw("--scribbles", "scribbles", "--columns", 1)
    assert len(figure.axes) == 4 * 5 and figure.get_figwidth() * figure.dpi == 1200
    words = texts(figure)
    assert words[:2] == [
        "4 of 4 images, those with the lowest IoU of 'good' first",
        "IoU in %: mean over the classes in the image's label map, without 255; bold: the best",
    ]
    assert words[2:7] == ["image", "scribble", "poor", "good", "ground truth"]
    mask, good, poor = (read(root / folder / "im3.png") for folder in ("masks", "good", "poor"))
    known = mask != 255
    share = 100 * (read(root / "scribbles" / "im3.png") != 255).mean()
    assert words[7:10] == ["im3", "worst 1 of 4", f"{share:.1f} % of pixels"]
    assert words[10] == f"IoU {expected_iou(poor, mask):.1f}"
    place = words.index(f"IoU {expected_iou(good, mask):.1f}")
    both = [100 * ((good == k) & (mask == k)).sum() / (((good == k) | (mask == k)) & known).sum() for k in (0, 12)]
    expected = f"background {both[0]:.0f}, dog {both[1]:.0f}"
    assert " ".join(words[place + 1 : place + 3]).replace("\xa0", " ").startswith(expected)
    place = words.index("im0")
    assert words[place + 1 : place + 3] == ["worst 4 of 4", "no scribble"]
    bold = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    pairs = [[read(root / folder / f"im{k}.png") for folder in ("good", "masks")] for k in (3, 2, 1, 0)]
    assert bold == [f"IoU {expected_iou(*pair):.1f}" for pair in pairs]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["background", "dog", "255, not counted"]
    total = prepare()[0].iou(prepare()[0].items, 1)
    assert words[-1].startswith(f"good: IoU {total:.1f} over the whole list (4 images")


def test_pictures_are_the_files(root):
    figure = draw("--columns", 1, "--order", "list")
    palette = voc.palette()
    for index in range(4):
        image, poor, _, truth = (
            np.array(axes.images[0].get_array()) for axes in figure.axes[4 * index : 4 * index + 4]
        )
        for picture, folder in ((poor, "poor"), (truth, "masks")):
            label = read(root / folder / f"im{index}.png")
            rows = ((np.arange(picture.shape[0]) + 0.5) * label.shape[0] / picture.shape[0]).astype(int)
            cols = ((np.arange(picture.shape[1]) + 0.5) * label.shape[1] / picture.shape[1]).astype(int)
            label = label[rows][:, cols]
            inside = np.ones(label.shape, bool)  # what is not beside another label, where lines are
            for shift in (-2, -1, 1, 2):
                for axis in (0, 1):
                    inside &= np.roll(label, shift, axis) == label
            same = (picture == palette[label]).all(axis=2)[inside & (label != 255)]
            assert same.mean() > 0.995  # a point half-way between two pixels may go to either
            assert np.isin(picture[inside & (label == 255)], [140, 255]).mean() > 0.95
        assert image[label == 12].mean() > 180 and image[label == 0].mean() < 60 and image.shape == truth.shape
        ratio = image.shape[1] / image.shape[0]
        assert ratio == pytest.approx(WIDTHS[index] / HEIGHTS[index], rel=0.02)


@pytest.mark.parametrize(
    "more",
    [
        ["--columns", 1],
        ["--width", 600, "--prediction", f"{'a_long_name' * 6}=good"],
        ["--scribbles", "scribbles", "--count", 3],
        ["--classes", "cat,cow,sheep,aeroplane,bicycle"],
    ],
)
def test_everything_is_inside_the_sheet_and_apart(root, more):
    write(root / "masks" / "im3.png", np.arange(34 * 48, dtype=np.uint8).reshape(48, 34) % 21)  # a long caption
    figure = draw(*more)
    size = figure.bbox.width, figure.bbox.height
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    boxes.append(figure.legends[0].get_window_extent())
    for box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= size[0] and box.y1 <= size[1]
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert (
                min(one.x1, other.x1) - max(one.x0, other.x0) <= 1 or min(one.y1, other.y1) - max(one.y0, other.y0) <= 4
            )


def command(*words):
    return main(["show", "--list", "list.txt", "--root", ".", *map(str, words)])


def test_command(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    words = ["--prediction", "poor=poor", "--prediction", "good=good", "--count", 2]
    assert command(*words, "--output", "new/folder/sheet.png") == 0
    said = capsys.readouterr()
    assert said.err == "wrote new/folder/sheet.png\n" and not (root / "rloss_output").exists()
    assert Image.open(root / "new" / "folder" / "sheet.png").size[0] == 1200
    head, *rows = (line.split() for line in said.out.splitlines())
    assert head[-2:] == ["poor", "good"] and [row[0] for row in rows] == ["im3", "im2", "whole"]
    expected = expected_iou(read(root / "good" / "im3.png"), read(root / "masks" / "im3.png"))
    assert float(rows[0][2]) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "give at least one --prediction or --model"),
        (["--prediction", "good=nowhere"], "no such folder: nowhere"),
        (["--prediction", "good"], "expected NAME=FOLDER"),
        (["--prediction", "a=good", "--prediction", "a=poor"], "a name of its own"),
        (["--prediction", "a=good", "--by", "b"], "--by must be one of a, found b"),
        (["--prediction", "a=good", "--count", "0"], "--count must be >= 1"),
        (["--prediction", "a=good", "--columns", "4", "--width", "600"], "4 x 3 pictures do not fit into 600 pixels"),
        (["--prediction", "a=good", "--scribbles", "masks/none"], "no image that is shown has a scribble"),
        (["--prediction", "a=good", "--names", "nothing,something"], "has the label 12, but --names names 2 classes"),
        (["--prediction", "a=good", "--classes", "unicorn"], "found 'unicorn'; --names names all classes"),
        (["--prediction", "a=scribbles"], "im0.png"),
        (["--prediction", "a=good", "--save-predictions", "x"], "there is no --model"),
        (["--model", "a=net.prototxt"], "expected NAME=NET.prototxt,WEIGHTS.caffemodel"),
        (["--model", "a=none.prototxt,none.caffemodel"], "no such file: none.prototxt"),
        (["--model", "../a=none.prototxt,none.caffemodel"], "with a name that can be a folder's"),
        (["--model", "a=x,y", "--mean", "1,2"], "expected 1 or 3 values, B,G,R, found 1,2"),
    ],
)
def test_messages_for_people(root, words, message, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    if "--model" in words:
        pytest.importorskip("caffe")
    try:
        assert command(*words) == 1
    except SystemExit as error:  # what the parser itself refuses
        assert error.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rloss-caffe show: ") and message in last


def test_two_images_with_one_id(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    pytest.importorskip("matplotlib")
    write(root / "others" / "im0.png", read(root / "images" / "im0.png"))
    with open(root / "list.txt", "a") as file:
        file.write("others/im0.png masks/im0.png\n")
    assert command("--prediction", "a=good") == 1
    assert "list.txt, lines 1 and 5: two images have the ID im0" in capsys.readouterr().err


def test_a_name_that_is_not_utf8(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    pytest.importorskip("matplotlib")
    name = os.fsdecode(b"caf\xe9")
    for folder in ("images", "masks", "good"):
        os.link(root / folder / "im0.png", root / folder / f"{name}.png")
    (root / "list.txt").write_bytes(b"images/caf\xe9.png masks/caf\xe9.png\n")
    assert command("--prediction", "a=good") == 0
    assert "caf\\xe9" in capsys.readouterr().out


def test_warnings_are_lines(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    pytest.importorskip("matplotlib")
    net, weights = write_net(root, "input")
    net.write_text(INPUT + SCORE + SCORE.replace("score", "second").replace('"data"', '"score"'))
    assert command("--model", f"a={net},{weights}", "--names", "voc") == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "no weights for" in line]
    assert len(warnings) == 1 and warnings[0].startswith("rloss-caffe show: warning: ")


def test_sizes_that_differ(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    write(root / "good" / "im2.png", np.zeros((5, 6), np.uint8))
    assert command("--prediction", "a=good") == 1
    said = capsys.readouterr().err
    assert "im2.png is 6 x 5, but" in said and "62 x 30" in said


def test_without_matplotlib(root):
    (root / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{ROOT}"}
    words = ["--list", "list.txt", "--root", ".", "--prediction", "a=good"]
    script = [sys.executable, str(ROOT / "tools" / "show_segmentations.py")]  # the path of version 0.1
    run = subprocess.run([*script, *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 1 and "this brings it: " in run.stderr


def test_command_with_models(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    net, weights = write_net(root, "seg_data")
    words = ["--prediction", "poor=poor", "--model", f"net={net},{weights}"]
    assert command(*words, "--save-predictions", "kept") == 0
    kept = Image.open(root / "kept" / "net" / "im2.png")
    photo = read(root / "images" / "im2.png")
    assert kept.mode == "P" and kept.getpalette()[:768] == voc.palette().ravel().tolist()
    np.testing.assert_array_equal(np.array(kept), np.where(photo.mean(axis=2) > 110, 12, 0))
    assert sorted(path.name for path in (root / "kept").iterdir()) == ["net"]
    said = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()}
    assert all(float(rows[f"im{k}"][1]) == 100 for k in range(4))
    assert "wrote kept\n" in said.err and (root / "rloss_output" / "segmentations.png").exists()


def test_gpu_that_is_not_there(root, capsys):
    pytest.importorskip("matplotlib", minversion="3.7")
    net, weights = write_net(root, "seg_data")
    from rloss_caffe.commands._devices import has_gpu

    if has_gpu(7):
        pytest.skip("there is a GPU 7")
    assert command("--model", f"net={net},{weights}", "--gpu", 7) == 1
    assert capsys.readouterr().err.startswith("rloss-caffe show: --gpu=7: this Caffe is CPU-only")
