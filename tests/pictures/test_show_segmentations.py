"""Predictions are judged by the right figures, in the right order, and the sheet shows what it says."""

import importlib.util
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.paths import ROOT

from rloss_caffe.datasets import voc

Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
TOOL = ROOT / "tools" / "show_segmentations.py"
HEIGHTS, WIDTHS = (40, 44, 30, 48), (60, 50, 62, 34)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("show_segmentations", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(path, array):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path):
    """Four images: bright where class 12 is, dark elsewhere; two sets of predictions, scribbles for three of them."""
    random = np.random.RandomState(0)
    lines = []
    for index, (height, width) in enumerate(zip(HEIGHTS, WIDTHS)):
        mask = np.zeros((height, width), np.uint8)
        mask[8:28, 10:30] = 12
        photo = np.where(mask[..., np.newaxis] == 12, 200, 40) + random.randint(-20, 20, (height, width, 3))
        mask[28:30, 10:30] = 255
        write(tmp_path / "images" / f"im{index}.png", photo.astype(np.uint8))
        write(tmp_path / "masks" / f"im{index}.png", mask)
        good, poor = np.where(mask == 255, 0, mask).astype(np.uint8), np.zeros_like(mask)
        good[8 : 8 + index, 10:30] = 0  # the later, the worse
        poor[8:12, 10:30] = 12
        poor[0, :5] = 255
        write(tmp_path / "good" / f"im{index}.png", good)
        write(tmp_path / "poor" / f"im{index}.png", poor)
        scribble = np.full_like(mask, 255)
        scribble[20, 12:26], scribble[3, 5:25] = 12, 0
        if index:
            write(tmp_path / "scribbles" / f"im{index}.png", scribble)
        lines.append(f"images/im{index}.png masks/im{index}.png\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def read(path):
    return np.array(Image.open(path))


def expected_iou(prediction, mask):
    """Per cent, written out: the mean over the classes in the mask."""
    known = mask != 255
    prediction, mask = prediction[known], mask[known]
    values = [
        ((prediction == k) & (mask == k)).sum() / ((prediction == k) | (mask == k)).sum() for k in np.unique(mask)
    ]
    return 100 * np.mean(values)


def prepare(tool, root, *more, folders=("poor", "good")):
    words = ["--list", str(root / "list.txt"), "--root", str(root)]
    words += [word for name in folders for word in ("--prediction", f"{name}={root / name}")]
    arguments = tool.parse_arguments([*words, *map(str, more)])
    folders = {source.name: source.folder for source in arguments.sources}
    items = [tool.judge(entry, folders, arguments.classes) for entry in tool.read_list(arguments.list, arguments.root)]
    return SimpleNamespace(arguments=arguments, folders=folders, items=items)


def draw(tool, state, by=1):
    shown = tool.choose(state.items, by, state.arguments.order, state.arguments.count)
    return tool.draw(shown, state.folders, state.items, by, state.arguments)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def captions(figure):
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


def test_iou_of_each_image(tool, root):
    state = prepare(tool, root)
    for item in state.items:
        for index, name in enumerate(("poor", "good")):
            prediction, mask = read(root / name / f"{item.id}.png"), read(root / "masks" / f"{item.id}.png")
            assert tool.iou(item, index) == pytest.approx(expected_iou(prediction, mask))
    assert tool.iou(state.items[0], 1) == 100


def test_iou_of_the_whole_list(tool, root):
    state = prepare(tool, root)
    for index, name in enumerate(("poor", "good")):
        prediction, mask = (
            np.concatenate([read(root / folder / f"im{k}.png").ravel() for k in range(4)]) for folder in (name, "masks")
        )
        total, mean = tool.over_list(state.items, index)
        assert total == pytest.approx(expected_iou(prediction, mask))
        assert mean == pytest.approx(np.mean([tool.iou(item, index) for item in state.items]))


def test_order(tool, root):
    items = prepare(tool, root).items

    def ids(by, order, count=9):
        return [item.id for item in tool.choose(items, by, order, count)]

    assert ids(1, "best") == ["im0", "im1", "im2", "im3"] and ids(1, "worst") == ["im3", "im2", "im1", "im0"]
    assert ids(1, "list", 2) == ["im0", "im1"] and ids(1, "worst", 1) == ["im3"]
    assert ids(0, "best") == sorted(ids(0, "best"), key=lambda name: -tool.iou(items[int(name[2])], 0))


def test_image_in_which_nothing_counts_is_last(tool, root):
    write(root / "masks" / "im1.png", np.full((HEIGHTS[1], WIDTHS[1]), 255, np.uint8))
    state = prepare(tool, root)
    for order in ("worst", "best"):
        assert tool.choose(state.items, 1, order, 9)[-1].id == "im1"
    assert np.isfinite(tool.over_list(state.items, 1)).all()
    pytest.importorskip("matplotlib")
    assert ["nothing to count"] in captions(draw(tool, state))


def test_sheet(tool, root):
    pytest.importorskip("matplotlib")
    state = prepare(tool, root, "--scribbles", root / "scribbles", "--columns", 1)
    figure = draw(tool, state)
    assert len(figure.axes) == 4 * 5 and figure.get_figwidth() * figure.dpi == 1200
    assert texts(figure)[:2] == [
        "4 of 4 images, those with the lowest IoU of 'good' first",
        "IoU in %: mean over the classes in the image's label map, without 255; bold: the best",
    ]
    assert texts(figure)[2:7] == ["image", "scribble", "poor", "good", "ground truth"]
    first = captions(figure)[:5]
    mask, good = read(root / "masks" / "im3.png"), read(root / "good" / "im3.png")
    known = mask != 255
    assert first[0] == ["im3", "worst 1 of 4"]
    assert first[1] == [f"{100 * (read(root / 'scribbles' / 'im3.png') != 255).mean():.1f} % of pixels"]
    assert first[3][0] == f"IoU {expected_iou(good, mask):.1f}"
    both = [100 * ((good == k) & (mask == k)).sum() / (((good == k) | (mask == k)) & known).sum() for k in (0, 12)]
    assert " ".join(first[3][1:]).replace("\xa0", " ") == f"background {both[0]:.0f}, dog {both[1]:.0f}"
    assert captions(figure)[15:17] == [["im0", "worst 4 of 4"], ["no scribble"]]
    bold = [axes.texts[0].get_weight() == "bold" for axes in figure.axes[:5]]
    assert bold == [False, False, False, True, False]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["background", "dog", "255, not counted"]  # only what occurs
    assert texts(figure)[-1].startswith(
        f"good: IoU {tool.over_list(state.items, 1)[0]:.1f} over the whole list (4 images"
    )


def test_pictures_are_the_files(tool, root):
    pytest.importorskip("matplotlib")
    figure = draw(tool, prepare(tool, root, "--columns", 1, "--order", "list"))
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
            same = (picture == palette[label]).all(axis=2)[label != 255]
            assert same.mean() > 0.995  # a point half-way between two pixels may go to either
            assert np.isin(picture[label == 255], [140, 255]).mean() > 0.95
        assert image[label == 12].mean() > 180 and image[label == 0].mean() < 60 and image.shape == truth.shape
        ratio = image.shape[1] / image.shape[0]
        assert ratio == pytest.approx(WIDTHS[index] / HEIGHTS[index], rel=0.02)


def test_everything_is_inside_the_sheet_and_apart(tool, root):
    pytest.importorskip("matplotlib")
    write(root / "masks" / "im3.png", np.arange(34 * 48, dtype=np.uint8).reshape(48, 34) % 21)  # a long caption
    for more in (
        ["--columns", 1],
        ["--width", 600, "--prediction", f"{'a_long_name' * 6}={root / 'good'}"],
        ["--scribbles", root / "scribbles", "--count", 3],
    ):
        state = prepare(tool, root, *more)
        figure = draw(tool, state, len(state.folders) - 1)
        figure.canvas.draw()
        size = figure.bbox.width, figure.bbox.height
        boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
        boxes += [axes.get_window_extent() for axes in figure.axes]
        boxes += [text.get_window_extent() for axes in figure.axes for text in axes.texts if text.get_text()]
        boxes.append(figure.legends[0].get_window_extent())
        for box in boxes:
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= size[0] and box.y1 <= size[1]
        for index, one in enumerate(boxes):
            for other in boxes[index + 1 :]:
                assert (
                    min(one.x1, other.x1) - max(one.x0, other.x0) <= 1
                    or min(one.y1, other.y1) - max(one.y0, other.y0) <= 4
                )


def test_scribbles_survive_shrinking(tool):
    photo = np.full((50, 50, 3), 90, np.uint8)
    scribbles = np.full((500, 500), 255, np.uint8)
    scribbles[255, 100:400] = 15  # one pixel of 500, a tenth of a pixel of 50
    picture = tool.draw_scribbles(photo, tool.shrink_scribbles(scribbles, (50, 50)))
    stroke = (picture == voc.palette()[15]).all(axis=2)
    assert stroke[:, 25].nonzero()[0].tolist() == [24, 25, 26]
    assert (picture[[23, 27], 25] == 235).all() and (picture[[22, 28], 25] == 90).all()


def run_tool(root, *arguments, **options):
    command = [sys.executable, str(TOOL), "--list", str(root / "list.txt"), "--root", str(root), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=root, **options)


def test_command(root):
    pytest.importorskip("matplotlib")
    run = run_tool(
        root, "--prediction", "poor=poor", "--prediction", "good=good", "--count", 2, "--output", "sheet.png"
    )
    assert run.returncode == 0, run.stderr
    assert Image.open(root / "sheet.png").size[0] == 1200
    head, *rows = (line.split() for line in run.stdout.splitlines())
    assert head[-2:] == ["poor", "good"] and [row[0] for row in rows] == ["im3", "im2", "whole"]
    assert float(rows[0][2]) == pytest.approx(
        expected_iou(read(root / "good" / "im3.png"), read(root / "masks" / "im3.png")), abs=0.05
    )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give at least one --prediction or --model"),
        (["--prediction", "good=nowhere"], "no such folder: nowhere"),
        (["--prediction", "good"], "expected NAME=FOLDER"),
        (["--prediction", "a=good", "--prediction", "a=poor"], "a name of its own"),
        (["--prediction", "a=good", "--by", "b"], "--by must be one of a, found b"),
        (["--prediction", "a=good", "--count", "0"], "--count must be >= 1"),
        (["--prediction", "a=good", "--columns", "4", "--width", "600"], "4 x 3 pictures do not fit into 600 pixels"),
        (["--prediction", "a=good", "--scribbles", "masks/none"], "no image that is shown has a scribble"),
        (["--prediction", "a=good", "--classes", "nothing,something"], "has the label 12, found 2 classes"),
        (["--prediction", "a=scribbles"], "im0.png"),
        (["--model", "a=net.prototxt"], "expected NAME=NET.prototxt,WEIGHTS.caffemodel"),
        (["--model", "a=none.prototxt,none.caffemodel"], "no such file: none.prototxt"),
        (["--model", "../a=none.prototxt,none.caffemodel"], "with a name that can be a folder's"),
    ],
)
def test_messages_for_people(root, arguments, message):
    pytest.importorskip("matplotlib")
    if "--model" in arguments:
        pytest.importorskip("caffe")
    run = run_tool(root, *arguments)
    assert run.returncode != 0 and message in run.stderr and "Traceback" not in run.stderr, run.stderr


def test_sizes_that_differ(root):
    pytest.importorskip("matplotlib")
    write(root / "good" / "im2.png", np.zeros((5, 6), np.uint8))
    run = run_tool(root, "--prediction", "a=good")
    assert run.returncode == 1 and "im2.png is 6 x 5, but" in run.stderr and "62 x 30" in run.stderr


def test_without_matplotlib(root):
    (root / "matplotlib.py").write_text("raise ImportError('not here')")
    run = run_tool(root, "--prediction", "a=good", env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{ROOT}"})
    assert run.returncode == 1 and "this brings it: " in run.stderr


# Nets: 13 classes, of which 12 wins where the image is bright; the lists that they name do not exist.

SEG_DATA = """layer { name: "data" type: "Python" top: "data" top: "label" include { phase: TEST } python_param {
  module: "rloss_caffe.layers" layer: "ImageSegData"
  param_str: "{source: nowhere.txt, root_folder: /nowhere, label_type: PIXEL, crop_size: 49, mean_value: [7, 8, 9]}" } }
layer { name: "training" type: "Input" top: "data" top: "label" include { phase: TRAIN } }
"""
STOCK_DATA = """layer { name: "data" type: "ImageData" top: "data" top: "label"
  transform_param { mean_value: 10 scale: 0.5 crop_size: 40 } image_data_param { source: "nowhere.txt" } }
"""
INPUT = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
"""
OLD_INPUT = """input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 32
"""
SCORE = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param { num_output: 13 kernel_size: 1 } }
"""
JUDGE = """layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
layer { name: "acc" type: "Python" bottom: "score" bottom: "label" top: "acc"
  python_param { module: "rloss_caffe.layers" layer: "SegAccuracy" param_str: "ignore_label: 255" } }
layer { name: "rest" type: "Silence" bottom: "prob" }
"""
COARSE = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE kernel_size: 1 stride: 2 } }
"""
NETS = {
    "seg_data": (SEG_DATA + SCORE + JUDGE, 1, (7, 8, 9)),
    "image_data": (STOCK_DATA + SCORE + JUDGE, 0.5, (10, 10, 10)),
    "input": (INPUT + SCORE, 1, (104.008, 116.669, 122.675)),
    "old_input": (OLD_INPUT + SCORE, 1, (104.008, 116.669, 122.675)),
    "coarse": (SEG_DATA + COARSE + SCORE.replace('bottom: "data"', 'bottom: "pool"') + JUDGE, 1, (7, 8, 9)),
}


def write_net(folder, name):
    """The prototxt, and weights with which class 12 has score mean(B, G, R) - 110 and class 0 has 0."""
    caffe = pytest.importorskip("caffe")
    text, scale, mean = NETS[name]
    net, source = folder / f"{name}.prototxt", folder / "weights.prototxt"
    net.write_text(text)
    source.write_text(INPUT + SCORE)
    made = caffe.Net(str(source), caffe.TEST)
    weight, bias = made.params["score"]
    weight.data[...], bias.data[...] = 0, -1000
    weight.data[12], bias.data[0] = 1 / 3 / scale, 0
    bias.data[12] = np.mean(mean) - 110
    weights = folder / f"{name}.caffemodel"
    made.save(str(weights))
    return net, weights


@pytest.mark.parametrize("name", [name for name in NETS if name != "coarse"])
def test_nets_segment_as_they_should(root, name):
    net, weights = write_net(root, name)
    from rloss_caffe.nets.segmenter import Segmenter

    segmenter = Segmenter(net, weights)
    assert (segmenter.data, segmenter.score) == ("data", "score")
    for index in range(4):  # some smaller than the crop, some larger
        photo = read(root / "images" / f"im{index}.png")
        expected = np.where(photo.mean(axis=2) > 110, 12, 0)
        np.testing.assert_array_equal(segmenter.predict(root / "images" / f"im{index}.png"), expected)


def test_the_same_counts_as_in_the_net_itself(tool, root):
    """The net with its own data layer and SegAccuracy, and the segmenter, which replaces both."""
    caffe = pytest.importorskip("caffe")
    from rloss_caffe.layers.seg_accuracy import confusion_matrices
    from rloss_caffe.nets.segmenter import Segmenter

    text = (SEG_DATA + SCORE + JUDGE).replace(
        "kernel_size: 1", 'kernel_size: 3 pad: 1 weight_filler { type: "xavier" }'
    )
    text = text.replace("crop_size: 49", "crop_size: 67, prefetch: 0")
    text = text.replace("nowhere.txt", f"{root}/list.txt").replace("/nowhere", str(root))
    path, weights = root / "whole.prototxt", root / "whole.caffemodel"
    path.write_text(text.replace("ignore_label: 255", "{ignore_label: 255, reset: false}"))
    net = caffe.Net(str(path), caffe.TEST)
    net.params["score"][0].data[[3, 7]] = net.params["score"][0].data[12]  # equal scores: the last wins
    net.save(str(weights))
    for _ in range(4):
        net.forward()
    (expected,) = confusion_matrices(net).values()
    segmenter = Segmenter(path, weights)
    for index in range(4):
        mask = read(root / "masks" / f"im{index}.png")
        label = segmenter.predict(root / "images" / f"im{index}.png")
        expected.counts -= tool.count(label[mask != 255], mask[mask != 255], 13).counts[:13, :13]
    assert not expected.counts.any()


def test_coarse_scores_are_interpolated(root):
    from rloss_caffe.nets.segmenter import Segmenter

    label = Segmenter(*write_net(root, "coarse")).predict(root / "images" / "im0.png")
    truth = np.where(read(root / "images" / "im0.png").mean(axis=2) > 110, 12, 0)
    assert label.shape == truth.shape and 0.9 < (label == truth).mean() < 1


def test_score_and_mean_can_be_given(root):
    net, weights = write_net(root, "seg_data")
    from rloss_caffe.nets.segmenter import Segmenter

    path = root / "images" / "im0.png"
    assert Segmenter(net, weights, score="prob").score == "prob"
    np.testing.assert_array_equal(
        Segmenter(net, weights, score="prob").predict(path), Segmenter(net, weights).predict(path)
    )
    assert (Segmenter(net, weights, mean=[200]).predict(path) == 0).all()
    with pytest.raises(ValueError, match="has no blob 'scores'"):
        Segmenter(net, weights, score="scores")
    with pytest.raises(ValueError, match="found 2"):
        Segmenter(net, weights, mean=[1, 2])


def test_nets_that_cannot_be_used(root):
    net, weights = write_net(root, "input")
    from rloss_caffe.nets.segmenter import Segmenter

    def fails(text, message):
        net.write_text(text)
        with pytest.raises(ValueError, match=message):
            Segmenter(net, weights)

    fails(INPUT + SCORE.replace('name: "score"', 'name: "other"'), "no layer of .* has weights in")
    fails(INPUT + SCORE + SCORE.replace("score", "second"), "not one output: score, second")
    fails(INPUT + SCORE.replace('type: "Convolution"', 'kind: "Convolution"'), "input.prototxt:2:.*kind")
    fails(INPUT + re.sub(r"num_output: \d+", "num_output: 9", SCORE), "layer 'score' has blobs of shape 9 x")
    weights.write_bytes(b"no weights" * 9)
    fails(INPUT + SCORE, r"input.caffemodel is no binary NetParameter")
    weights = write_net(root, "seg_data")[1]
    two = INPUT + INPUT.replace("data", "more")
    fails(
        two + 'layer { name: "s" type: "Concat" bottom: "data" bottom: "more" top: "s" }', "one data blob.*: data, more"
    )
    fails(STOCK_DATA.replace("mean_value: 10", 'mean_file: "x"') + SCORE + JUDGE, "has a mean_file")


def test_layers_without_weights_are_named(root):
    net, weights = write_net(root, "input")
    from rloss_caffe.nets.segmenter import Segmenter

    net.write_text(INPUT + SCORE + SCORE.replace("score", "second").replace('"data"', '"score"'))
    with pytest.warns(UserWarning, match="input.caffemodel has no weights for the layers second"):
        Segmenter(net, weights)


def test_command_with_models(root):
    pytest.importorskip("matplotlib")
    net, weights = write_net(root, "seg_data")
    model = f"{net},{weights}"
    run = run_tool(root, "--prediction", "poor=poor", "--model", f"net={model}", "--save-predictions", "kept")
    assert run.returncode == 0, run.stderr[-2000:]
    kept = Image.open(root / "kept" / "net" / "im2.png")
    photo = read(root / "images" / "im2.png")
    assert kept.mode == "P" and kept.getpalette()[:768] == voc.palette().ravel().tolist()
    np.testing.assert_array_equal(np.array(kept), np.where(photo.mean(axis=2) > 110, 12, 0))
    assert sorted(path.name for path in (root / "kept").iterdir()) == ["net"]
    rows = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert all(float(rows[f"im{k}"][1]) == 100 for k in range(4)) and (root / "segmentations.png").exists()


def test_gpu_that_is_not_there(root):
    pytest.importorskip("matplotlib")
    net, weights = write_net(root, "seg_data")
    from rloss_caffe.commands._devices import has_gpu

    if has_gpu(7):
        pytest.skip("there is a GPU 7")
    run = run_tool(root, "--model", f"net={net},{weights}", "--gpu", 7)
    assert run.returncode == 1 and run.stderr.startswith("show_segmentations: --gpu=7: this Caffe is CPU-only")
