"""The gradients shown are those that training sees, the figures show them as they say, and every option works."""

import dataclasses
import importlib.util
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from rloss_caffe import densecrf_loss
from rloss_caffe.losses.gradients import densecrf_gradients

EXPER = ROOT / "exper"
TOOL = EXPER / "visualize_densecrf_gradient.py"


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def example(height=14, width=19, classes=3, seed=0):
    random = np.random.RandomState(seed)
    image = np.zeros((3, height, width)) - 60
    image[:, :, width // 2 :] = 70
    image += random.uniform(-9, 9, image.shape)
    return image.astype(np.float32), random.normal(0, 1, (classes, height, width))


@pytest.mark.parametrize("behind_softmax", [False, True])
def test_gradient_against_finite_differences(behind_softmax):
    image, scores = example()

    def value(array):
        probabilities = softmax(array) if behind_softmax else array
        return 2e-3 * densecrf_loss(image[None], probabilities[None], 5, 20).value

    start = scores if behind_softmax else softmax(scores)
    found = densecrf_gradients(image, softmax(scores), 5, 20, loss_weight=2e-3, exact_gradient=True)
    gradient = found.score if behind_softmax else found.probability
    assert found.value == pytest.approx(value(start) / 2e-3)
    random = np.random.RandomState(1)
    for _ in range(5):
        direction = random.normal(0, 1, scores.shape) + 30 * gradient / np.abs(gradient).max()
        step = 2e-3
        expected = (value(start + step * direction) - value(start - step * direction)) / (2 * step)
        assert (gradient * direction).sum() == pytest.approx(expected, rel=5e-3)


def test_score_gradient_adds_up_to_zero_over_the_classes():
    image, scores = example()
    gradient = densecrf_gradients(image, softmax(scores), 5, 20).score
    assert np.abs(gradient.sum(axis=0)).max() < 1e-5 * np.abs(gradient).max()


@pytest.mark.parametrize("shape", [(2, 5), (1, 2, 5, 5)])
def test_gradients_want_one_image(shape):
    with pytest.raises(ValueError, match=r"image must have 3 dimensions.*found"):
        densecrf_gradients(np.zeros(shape), np.zeros((2, 5, 5)))


# Networks

HEAD = """
layer { name: "pixels" type: "Python" top: "picture" top: "truth" include { phase: TRAIN }
  python_param { module: "rloss_caffe.layers" layer: "ImageSegData"
  param_str: "{source: 'LIST', batch_size: 1, label_type: NONE, crop_size: 48, "
             "mean_value: [104.008, 116.669, 122.675]}" } }
"""
BODY = """
layer { name: "small" type: "Power" bottom: "picture" top: "small" power_param { scale: 0.02 } }
layer { name: "hidden" type: "Convolution" bottom: "small" top: "hidden" convolution_param { num_output: 6
  kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "relu" type: "ReLU" bottom: "hidden" top: "hidden" }
layer { name: "drop" type: "Dropout" bottom: "hidden" top: "hidden" dropout_param { dropout_ratio: RATIO } }
layer { name: "last" type: "Convolution" bottom: "hidden" top: "marks" convolution_param { num_output: 4
  kernel_size: 1 weight_filler { type: "gaussian" std: 0.7 } } }
layer { name: "chances" type: "Softmax" bottom: "marks" top: "chances" }
"""
LOSS = """
layer { name: "crf" type: "Python" bottom: "picture" bottom: "chances" top: "crf" loss_weight: 1e-4
  propagate_down: false propagate_down: true python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss"
  param_str: "bi_xy_std: 9\\nbi_rgb_std: 14" } }
"""
FORK_HEAD = """
layer { name: "pixels" type: "ImageSegData" top: "picture" top: "truth" include { phase: TRAIN }
  transform_param { crop_size: 48 mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 }
  image_data_param { source: "LIST" batch_size: 1 label_type: NONE } }
"""
FORK_LOSS = """
layer { name: "crf" type: "DenseCRFLoss" bottom: "picture" bottom: "chances" top: "crf" loss_weight: 1e-4
  propagate_down: false propagate_down: true densecrf_loss_param { bi_xy_std: 9 bi_rgb_std: 14 } }
"""


@pytest.fixture
def folder(tmp_path):
    """Two images, label maps and probabilities, a list, a net in both dialects, and its weights if there is Caffe."""
    Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")
    pytest.importorskip("cv2", reason="images are read with OpenCV")
    (tmp_path / "labels").mkdir()
    (tmp_path / "arrays").mkdir()
    for index, (height, width) in enumerate([(37, 41), (30, 44)]):
        random = np.random.RandomState(index)
        label = np.zeros((height, width), np.uint8)
        label[8:24, 10:30] = 2
        photo = np.where(label[..., np.newaxis] == 2, 210, 50) + random.randint(-20, 20, (height, width, 3))
        Image.fromarray(photo.astype(np.uint8)).save(tmp_path / f"im{index}.png")
        label[20:24] = 255
        Image.fromarray(label).save(tmp_path / "labels" / f"im{index}.png")
        probabilities = softmax(
            random.normal(0, 1, (4, height, width)) + 2 * (label[None] == np.arange(4)[:, None, None])
        )
        np.save(tmp_path / "arrays" / f"im{index}.npy", probabilities)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/im0.png\n\n{tmp_path}/im1.png\n")
    for name, text in {"net": HEAD + BODY + LOSS, "fork": FORK_HEAD + BODY + FORK_LOSS}.items():
        text = text.replace("LIST", str(tmp_path / "list.txt"))
        (tmp_path / f"{name}.prototxt").write_text(text.replace("RATIO", "0.5"))
        (tmp_path / f"{name}_sure.prototxt").write_text(text.replace("RATIO", "0"))
    return tmp_path


@pytest.fixture
def weights(folder):
    caffe = pytest.importorskip("caffe")
    caffe.set_random_seed(3)
    path = str(folder / "net.caffemodel")
    caffe.Net(str(folder / "net_sure.prototxt"), caffe.TRAIN).save(path)
    return path


def test_gradients_are_those_of_training(folder, weights):
    import caffe

    from rloss_caffe.nets.loss_net import LossNet

    trained = caffe.Net(str(folder / "net_sure.prototxt"), caffe.TRAIN, weights=weights)
    net = LossNet(folder / "net.prototxt", weights)  # this one has a Dropout, which must not be felt
    assert (net.layer, net.image, net.probability, net.score) == ("crf", "picture", "chances", "marks")
    assert (net.bi_xy_std, net.bi_rgb_std, net.loss_weight, net.exact_gradient) == (9, 14, 1e-4, False)
    for index, size in enumerate([(37, 41), (30, 44)]):
        trained.forward()
        trained.backward()
        given = net.predict(folder / f"im{index}.png")
        assert given.size == size and given.image.shape == (3, 48, 48)
        np.testing.assert_allclose(given.image, trained.blobs["picture"].data[0], atol=1e-4)
        found = densecrf_gradients(given.image, given.probabilities, net.bi_xy_std, net.bi_rgb_std, net.loss_weight)
        assert found.value == pytest.approx(float(trained.blobs["crf"].data), rel=1e-5)
        for name, gradient in (("chances", found.probability), ("marks", found.score)):
            expected = trained.blobs[name].diff[0]
            assert np.abs(expected).max() > 1e-4
            np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_both_dialects_give_the_same(folder, weights):
    from rloss_caffe.nets.loss_net import LossNet

    stock, fork = (LossNet(folder / f"{name}.prototxt", weights) for name in ("net", "fork"))
    assert (fork.bi_xy_std, fork.bi_rgb_std, fork.loss_weight) == (9, 14, 1e-4)
    for first, second in zip(stock.predict(folder / "im0.png"), fork.predict(folder / "im0.png")):
        np.testing.assert_array_equal(first, second)


def test_images_of_any_size_without_a_crop(folder, weights):
    """Strides need sizes that fit; the image is padded up to the first one that does."""
    import caffe

    from rloss_caffe.nets.loss_net import LossNet

    text = """
layer { name: "picture" type: "Python" top: "picture" python_param { module: "nowhere" layer: "Unknown" } }
layer { name: "down" type: "Pooling" bottom: "picture" top: "down"
  pooling_param { pool: AVE kernel_size: 4 stride: 4 } }
layer { name: "narrow" type: "Convolution" bottom: "down" top: "narrow" convolution_param { num_output: 2
  kernel_size: 1 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "up" type: "Deconvolution" bottom: "narrow" top: "up" convolution_param { num_output: 2 kernel_size: 4
  stride: 4 bias_term: false weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "chances" type: "Softmax" bottom: "up" top: "chances" }
"""
    (folder / "strided.prototxt").write_text(text + LOSS)
    plain = text.replace('"Python"', '"Input"').replace('python_param { module: "nowhere" layer: "Unknown" }', "")
    plain = plain.replace('type: "Input"', 'type: "Input" input_param { shape { dim: 1 dim: 3 dim: 40 dim: 44 } }')
    (folder / "plain.prototxt").write_text(plain)
    caffe.Net(str(folder / "plain.prototxt"), caffe.TEST).save(str(folder / "strided.caffemodel"))
    net = LossNet(folder / "strided.prototxt", folder / "strided.caffemodel")
    given = net.predict(folder / "im0.png")
    assert given.image.shape[1:] == given.probabilities.shape[1:] == (40, 44) and given.size == (37, 41)
    assert net.predict(folder / "im1.png").image.shape[1:] == (32, 44)


def test_nets_that_do_not_fit(folder, weights):
    from rloss_caffe.nets.loss_net import LossNet

    text = (folder / "net.prototxt").read_text()
    second = LOSS.replace('"crf"', '"other"').replace("bi_xy_std: 9", "bi_xy_std: 5")
    (folder / "two.prototxt").write_text(text + second)
    (folder / "none.prototxt").write_text(text.replace(LOSS, ""))
    with pytest.raises(ValueError, match="several DenseCRFLoss layers, 'crf', 'other'"):
        LossNet(folder / "two.prototxt", weights)
    assert LossNet(folder / "two.prototxt", weights, layer="other").bi_xy_std == 5
    with pytest.raises(ValueError, match="no DenseCRFLoss layer 'third', but 'crf', 'other'"):
        LossNet(folder / "two.prototxt", weights, layer="third")
    with pytest.raises(ValueError, match=r"none.prototxt has no DenseCRFLoss layer$"):
        LossNet(folder / "none.prototxt", weights)
    with pytest.raises(ValueError, match="no such file: nowhere"):
        LossNet(folder / "net.prototxt", "nowhere")
    with pytest.raises(ValueError, match="several values|expected a mean"):
        LossNet(folder / "net.prototxt", weights, mean=[1, 2])
    (folder / "open.prototxt").write_text(text.replace("num_output: 4", "num_output: ${NUM_LABELS}"))
    with pytest.raises(ValueError, match=r"open.prototxt cannot be read: .*NUM_LABELS.*placeholders have to be filled"):
        LossNet(folder / "open.prototxt", weights)
    (folder / "wide.prototxt").write_text(text.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(ValueError, match="does not fit the net: layer 'last' has blobs of shape 5 x 6 x 1 x 1, 5 in"):
        LossNet(folder / "wide.prototxt", weights)


def test_loss_weight_of_none(folder, weights, tool, monkeypatch):
    (folder / "none.prototxt").write_text((folder / "net.prototxt").read_text().replace("loss_weight: 1e-4", ""))
    words = [folder / "im0.png", "--model", folder / "none.prototxt", "--weights", weights, "--output", folder / "out"]
    with pytest.raises(ValueError, match="layer 'crf' has the loss_weight 0.*--loss_weight replaces it"):
        run(tool, monkeypatch, *words)
    run(tool, monkeypatch, *words, "--loss_weight", 1e-4)
    assert (folder / "out" / "im0_gradient.png").is_file()


# Figures


@pytest.fixture(scope="module")
def tool():
    for module in ("matplotlib", "cv2", "PIL"):
        pytest.importorskip(module, reason="the figures need it")
    sys.path.insert(0, str(EXPER))
    spec = importlib.util.spec_from_file_location("visualize_densecrf_gradient", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(EXPER))


def result_of(tool, height=120, width=160, name="example", label=None):
    image, scores = example(height, width, classes=4)
    scores[2, :, : width // 2] += 3
    scores[0, :, width // 2 :] += 3
    photo = np.ascontiguousarray(np.clip(image.transpose(1, 2, 0) + 120, 0, 255).astype(np.uint8))
    probabilities = softmax(scores).astype(np.float32)
    settings = {
        "bi_xy_std": 30.0,
        "bi_rgb_std": 15.0,
        "loss_weight": 1e-6,
        "exact_gradient": False,
        "threads": 1,
        "runs": 3,
    }
    found = densecrf_gradients(image, probabilities, 30, 15, 1e-6)
    names = ["background", "dog", "diningtable", "pottedplant"]
    return tool.figures.Result(
        name, photo, label, probabilities, found.score, found.probability, found.value, names, settings, "made up"
    )


@pytest.fixture(autouse=True)
def close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


def axes_of(figure):
    found = {}
    for axes in figure.axes:
        found.setdefault(axes.get_label().replace("<colorbar>", "bar"), []).append(axes)
    return found


def texts(figure):
    return [text for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text().strip()]


def assert_nothing_is_clipped(figure):
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text.get_text()


def test_figure_shows_the_arrays_on_symmetric_common_scales(tool):
    result = result_of(tool)
    figure = tool.figures.draw_result(result, [0, 2])
    axes = axes_of(figure)
    expected = {"photo", "labels", "explanation", "bar"}
    expected |= {f"{kind} {k}" for kind in ("probability", "score gradient", "probability gradient") for k in (0, 2)}
    assert set(axes) == expected and len(axes["bar"]) == 3
    np.testing.assert_array_equal(axes["photo"][0].images[0].get_array(), result.photo)
    for kind, values in (("score gradient", result.score), ("probability gradient", result.probability)):
        limits = set()
        for k in (0, 2):
            shown = axes[f"{kind} {k}"][0].images[0]
            np.testing.assert_array_equal(shown.get_array(), values[k])
            low, high = shown.get_clim()
            assert low == -high and shown.get_cmap().name == "RdBu_r"
            limits.add(high)
        assert len(limits) == 1 and limits.pop() == pytest.approx(np.percentile(np.abs(values[[0, 2]]), 99.5))
    for k in (0, 2):
        shown = axes[f"probability {k}"][0].images[0]
        np.testing.assert_array_equal(shown.get_array(), result.probabilities[k])
        assert shown.get_clim() == (0, 1)
    bars = [[tick.get_text() for tick in axis.get_xticklabels()] for axis in axes["bar"]]
    limit = tool.figures.number(np.percentile(np.abs(result.score[[0, 2]]), 99.5))
    assert bars[0] == ["0", "0.5", "1"] and bars[1] == [f"\u2212{limit}", "0", limit]
    words = " ".join(text.get_text() for text in texts(figure))
    assert tool.figures.number(result.loss) in words and "loss weight 1e-06" in words
    assert "bi_xy_std 30 pixels, bi_rgb_std 15" in words and "diningtable" in words
    assert re.search(r"Red .above 0. pushes the\s+class down", words) and "Classes not shown: 2 of 4" in words
    assert figure.canvas.get_width_height()[0] == 1200


def test_red_is_positive(tool):
    picture = tool.figures.gradient_picture(np.array([[-1.0, 0, 1, 9]]), 1.0)
    assert picture[0, 0, 2] > picture[0, 0, 0] and picture[0, 2, 0] > picture[0, 2, 2]
    assert picture[0, 1].min() > 240 and (picture[0, 2] == picture[0, 3]).all()


@pytest.mark.parametrize("height, width, pixels", [(120, 160, 1200), (160, 60, 1200), (40, 200, 900), (9, 11, 1600)])
def test_nothing_is_clipped(tool, height, width, pixels):
    result = result_of(tool, height, width, name="a_photo_with_a_name_that_is_much_longer_than_anybody_would_wish" * 2)
    assert_nothing_is_clipped(tool.figures.draw_result(result, [0, 1, 2], pixels))
    trials = [
        tool.figures.Trial(xy, rgb, -1.234e9, result.score[2], 12.3456)
        for xy in (2.5, 100)
        for rgb in ([5, 10, 20, 40] if pixels > 900 else [5, 20])
    ]
    assert_nothing_is_clipped(tool.figures.draw_sweep(result, 2, trials, pixels))


def test_labels_that_were_given_are_shown(tool):
    label = np.full((120, 160), 255, np.uint8)
    label[20, 10:60] = 2
    result = result_of(tool, label=label)
    figure = tool.figures.draw_result(result, [2])
    picture = axes_of(figure)["labels"][0].images[0].get_array()
    assert tuple(picture[20, 30]) == tuple(tool.voc.palette()[2])
    np.testing.assert_array_equal(picture[60:], result.photo[60:])
    assert "the labels given" in [text.get_text() for text in texts(figure)]


def test_sweep_scales_each_trial(tool):
    result = result_of(tool)
    trials = [
        tool.figures.Trial(xy, rgb, -10.0 * xy, xy * result.score[2], 0.25)
        for xy in (20.0, 60.0)
        for rgb in (5.0, 12.0)
    ]
    figure = tool.figures.draw_sweep(result, 2, trials)
    axes = axes_of(figure)
    assert set(axes) == {"photo", "probability", "bar"} | {f"trial {a} {b}" for a in (20, 60) for b in (5, 12)}
    for trial in trials:
        shown = axes[f"trial {trial.bi_xy_std:g} {trial.bi_rgb_std:g}"][0].images[0]
        assert shown.get_clim() == (-1, 1)
        limit = np.percentile(np.abs(trial.gradient), 99.5)
        np.testing.assert_allclose(shown.get_array(), trial.gradient / limit, rtol=1e-5)
    boxes = {name: axes[name][0].get_position() for name in axes if name.startswith("trial")}
    assert boxes["trial 20 5"].x0 < boxes["trial 20 12"].x0 and boxes["trial 20 5"].y0 > boxes["trial 60 5"].y0
    words = [text.get_text() for text in texts(figure)]
    assert "loss \u2212600,  250 ms" in words and "bi_xy_std 60, bi_rgb_std 12" in words


def test_edges_are_where_the_photo_changes(tool):
    photo = np.full((60, 80, 3), 60, np.uint8)
    photo[:, 40:] = 200
    photo[10:12, 10:12] = 255  # a speck
    edges = tool.figures.image_edges(photo)
    assert edges[:, 38:42].any(axis=1).mean() > 0.9
    edges[:, 38:42] = False
    assert not edges.any()
    assert not tool.figures.image_edges(np.full((20, 20, 3), 99, np.uint8)).any()


@pytest.mark.parametrize("pixels", [40, 300, 2000])
def test_edges_are_seen_whatever_the_size_of_the_photo(tool, pixels):
    result = result_of(tool, 40, 60)
    grown = np.ones((1, pixels // 20, pixels // 20))
    photo = np.full((2 * pixels // 3, pixels, 3), 60, np.uint8)
    photo[:, pixels // 2 :] = 200
    arrays = {name: np.kron(getattr(result, name)[:, :14, :19], grown) for name in ("probabilities", "score")}
    figure = tool.figures.draw_result(
        dataclasses.replace(result, photo=photo, probability=arrays["score"], **arrays), [0]
    )
    figure.canvas.draw()
    axes = axes_of(figure)["probability gradient 0"][0]
    values, overlay = axes.images
    assert overlay.get_extent() == values.get_extent()
    box = axes.get_window_extent()
    rows, columns = overlay.get_array().shape[:2]
    assert rows <= round(box.height) and columns <= round(box.width)  # so no line is thinner than a pixel
    lines = overlay.get_array()[..., 3] > 0
    middle = slice(int(0.45 * columns), int(0.55 * columns))
    assert lines[:, middle].any(axis=1).mean() > 0.9
    lines[:, middle] = False
    assert not lines.any()


def test_labels_of_a_large_photo_are_drawn_at_the_size_of_the_panel(tool):
    result = result_of(tool, 600, 900)
    label = np.full((600, 900), 255, np.uint8)
    label[300, 100:800] = 2
    caption, picture, named = tool.figures.label_panel(dataclasses.replace(result, label=label), (300, 200))
    assert caption == "the labels given" and picture.shape == (200, 300, 3) and (named[99:102, 100] == 2).all()
    assert (picture[100, 100] == tool.voc.palette()[2]).all()
    caption, picture, named = tool.figures.label_panel(result, (300, 200))
    assert caption == "class of highest probability" and named.shape == (200, 300)


def test_bars_above_narrow_panels_are_wide(tool):
    figure = tool.figures.draw_result(result_of(tool, 160, 30), [0, 2])
    figure.canvas.draw()
    for bar in axes_of(figure)["bar"]:
        boxes = [tick.get_window_extent() for tick in bar.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_numbers(tool):
    values = [0, 0.5, 0.00123, 0.000123, -123.4, 2427.3, -5e6, 999.9]
    expected = ["0", "0.5", "0.00123", "1.23e\u221204", "\u2212123", "2.43e+03", "\u22125.00e+06", "1.00e+03"]
    assert [tool.figures.number(value) for value in values] == expected


def test_soften(tool):
    label = np.full((20, 30), 255, np.uint8)
    label[:, :10], label[:, 20:] = 0, 2
    sharp = tool.soften(label, 4, confidence=0.8, blur=0)
    np.testing.assert_allclose(sharp[:, 0, 0], [0.85, 0.05, 0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(sharp[:, 0, 15], 0.25)
    soft = tool.soften(label, 4, confidence=0.8, blur=2)
    np.testing.assert_allclose(soft.sum(axis=0), 1, rtol=1e-6)
    assert 0.25 < soft[0, 10, 10] < 0.85 and soft[0, 10, 0] == pytest.approx(0.85, abs=1e-3)


# Commands


def run(tool, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, words)])
    tool.main()


def command(*words, **options):
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, **options)


def size_of(path):
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def test_model_with_every_output(folder, weights, tool):
    words = ["--model", folder / "fork.prototxt", "--weights", weights, "--output", folder / "out"]
    words += ["--list", folder / "list.txt", "--npz", "--original-names", "--classes", "class 1,3", "--width", 900]
    done = command(TOOL, *words)
    assert done.returncode == 0, done.stderr
    assert "layer 'crf': image 'picture', probabilities 'chances' (softmax of 'marks')" in done.stderr
    for name, size in (("im0", (41, 37)), ("im1", (44, 30))):
        assert size_of(folder / "out" / f"{name}_gradient.png")[0] == 900
        files = sorted(path.name for path in (folder / "out" / name).iterdir())
        assert files == ["1prob.png", "1scorediff.png", "3prob.png", "3scorediff.png"]
        assert {size_of(folder / "out" / name / file) for file in files} == {size}
    from rloss_caffe.nets.loss_net import LossNet

    with np.load(folder / "out" / "im1_gradient.npz") as file:
        arrays = dict(file)
    given = LossNet(folder / "net.prototxt", weights).predict(folder / "im1.png")
    expected = densecrf_gradients(given.image, given.probabilities, 9, 14, 1e-4)
    np.testing.assert_allclose(arrays["probability"], given.probabilities[:, :30, :44], atol=1e-6)
    for name, gradient in (("score_gradient", expected.score), ("probability_gradient", expected.probability)):
        np.testing.assert_allclose(arrays[name], gradient[:, :30, :44], atol=1e-5 * np.abs(gradient).max())
    assert float(arrays["loss"]) == pytest.approx(expected.value) and arrays["loss_weight"] == 1e-4
    assert (arrays["bi_xy_std"], arrays["bi_rgb_std"]) == (9, 14)


def test_settings_override_the_layer(folder, weights, tool, monkeypatch):
    words = [folder / "im0.png", "--model", folder / "net.prototxt", "--weights", weights, "--layer", "crf", "--npz"]
    words += ["--bi_xy_std", 6, "--bi_rgb_std", 33, "--loss_weight", 2, "--exact_gradient", "--mean", "100,110,120"]
    run(tool, monkeypatch, *words, "--names", "a,b,c,d", "--output", folder / "out")
    from rloss_caffe.nets.loss_net import LossNet

    given = LossNet(folder / "net.prototxt", weights, mean=[100, 110, 120]).predict(folder / "im0.png")
    expected = densecrf_gradients(given.image, given.probabilities, 6, 33, 2, exact_gradient=True)
    with np.load(folder / "out" / "im0_gradient.npz") as file:
        np.testing.assert_allclose(
            file["score_gradient"], expected.score[:, :37, :41], atol=1e-5 * np.abs(expected.score).max()
        )
        assert list(file["classes"]) == ["a", "b", "c", "d"]


def test_probabilities_of_a_folder_and_their_own_output(folder, tool, monkeypatch):
    images = [folder / "im0.png", folder / "im1.png"]
    run(tool, monkeypatch, *images, "--probabilities", folder / "arrays", "--npz", "--output", folder / "out")
    run(
        tool,
        monkeypatch,
        images[0],
        "--probabilities",
        folder / "out" / "im0_gradient.npz",
        "--npz",
        "--output",
        folder / "again",
    )
    first, second = (np.load(folder / name / "im0_gradient.npz") for name in ("out", "again"))
    np.testing.assert_allclose(first["probability"], np.load(folder / "arrays" / "im0.npy"), rtol=1e-6)
    np.testing.assert_array_equal(first["score_gradient"], second["score_gradient"])
    assert (first["bi_xy_std"], first["bi_rgb_std"], first["loss_weight"]) == (100, 15, 1e-8)


def test_labels(folder, tool, monkeypatch):
    words = [folder / "im0.png", "--labels", folder / "labels", "--confidence", 0.8, "--blur", 0, "--npz"]
    run(tool, monkeypatch, *words, "--format", "jpg", "--output", folder / "out")
    with np.load(folder / "out" / "im0_gradient.npz") as file:
        assert file["probability"].shape == (21, 37, 41) and file["classes"][2] == "bicycle"
        np.testing.assert_allclose(file["probability"][:3, 10, 12], [0.2 / 21, 0.2 / 21, 0.8 + 0.2 / 21], rtol=1e-5)
    assert size_of(folder / "out" / "im0_gradient.jpg")[0] == 1200


def test_sweep(folder, tool, monkeypatch, capsys):
    words = [folder / "im0.png", "--labels", folder / "labels" / "im0.png", "--sweep", "--bi_rgb_std", "5,20"]
    run(tool, monkeypatch, *words, "--bi_xy_std", 10, "--output", folder / "out")
    assert size_of(folder / "out" / "im0_sweep.png")[0] == 1200
    losses = re.findall(r"im0: 10 / (\d+): loss (\S+), \S+ ms", capsys.readouterr().out)
    assert [rgb for rgb, _ in losses] == ["5", "20"] and float(losses[1][1]) < float(losses[0][1]) < 0


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere.jpg"], "no such image: nowhere.jpg; nor is it one of the quickstart's: astronaut, camera"),
        (["im0.png", "labels/im0.png", "--labels", "labels"], "several images have the name im0"),
        (["im0.png", "--labels", "labels/im1.png"], "labels/im1.png is 44 x 30, but the image im0 41 x 37"),
        (["im0.png", "--labels", "arrays"], "nothing for the image im0: no arrays/im0.png"),
        (["im0.png", "--labels", "labels", "--names", "a,b"], "has the label 2, but there are 2 names of classes"),
        (
            ["im0.png", "--labels", "labels", "--classes", "unicorn"],
            "--classes: expected names or numbers of background",
        ),
        (
            ["im0.png", "--probabilities", "scores.npy"],
            "scores.npy holds no probabilities.*Scores need a softmax first",
        ),
        (["im0.png", "--probabilities", "flat.npy"], r"must hold floating-point probabilities .K, H, W., found"),
        (["im0.png", "--probabilities", "empty.npy"], r"must hold floating-point probabilities .*found.*.3, 0, 0."),
        (["im0.png", "--probabilities", "last.npy"], "Its classes are in the last axis, expected in the first"),
        (["im0.png", "--probabilities", "nan.npy"], "nan.npy holds 1 NaN and 0 infinite values"),
        (["im0.png", "--probabilities", "cut.npz"], "cannot read probabilities from cut.npz"),
        (["im0.png", "--probabilities", "im0.png"], "cannot read probabilities from im0.png"),
        (["im0.png", "--probabilities", "arrays", "--names", "a"], "--names: expected 4 names, found 1"),
        (["im0.png", "--model", "net.prototxt"], "--model and --weights belong together"),
        (["im0.png", "--labels", "labels", "--probabilities", "x"], "choose one of --probabilities, --labels"),
        (["--bi_xy_std", "3,4"], "--bi_xy_std: several values are for --sweep"),
        (["--bi_xy_std", "0"], "bandwidths must be above 0, found 0"),
        (["--sweep", "--npz"], "--npz and --original-names are not for --sweep"),
        (["--sweep", "--bi_xy_std", "1,2,3,4,5,6,7"], "at most 6 values"),
        (["--confidence", "0"], "--confidence must be above 0"),
        (["--mean", "1,2"], "expected 1 or 3 values"),
        (["--blur", "1e6"], "--blur must be from 0 to 500, found 1e.06"),
        (["--loss_weight", "0"], "--loss_weight must be above 0, found 0"),
        (["--mean", "nan"], "expected 1 or 3 values"),
        (["--width", "100"], "--width must be from 900 to 4000"),
    ],
)
def test_mistakes_are_told(folder, tool, monkeypatch, capsys, words, message):
    if "nowhere.jpg" in words:
        pytest.importorskip("skimage")
    monkeypatch.chdir(folder)
    np.save("scores.npy", 3 * np.load("arrays/im0.npy"))
    np.save("flat.npy", np.zeros((37, 41)))
    np.save("empty.npy", np.zeros((3, 0, 0)))
    probabilities = np.load("arrays/im0.npy")
    np.save("last.npy", probabilities.transpose(1, 2, 0))
    np.savez("cut.npz", probabilities)
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:500])
    probabilities[1, 2, 3] = np.nan
    np.save("nan.npy", probabilities)
    with pytest.raises((ValueError, SystemExit)) as error:
        run(tool, monkeypatch, *words)
    assert re.search(message, f"{error.value} {capsys.readouterr().err}")


def test_gpu_that_is_not_there(folder, weights):
    from rloss_caffe.commands._devices import has_gpu

    if has_gpu(7):
        pytest.skip("there is a GPU 7")
    done = command(TOOL, folder / "im0.png", "--model", folder / "net.prototxt", "--weights", weights, "--gpu", 7)
    assert done.returncode == 1 and done.stderr.startswith(
        "visualize_densecrf_gradient: --gpu=7: this Caffe is CPU-only"
    )


def test_missing_matplotlib_is_told(folder, tool):
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    done = command(TOOL, "--labels", folder / "labels", env={"PYTHONPATH": str(folder), "PATH": ""})
    assert done.returncode == 1 and "this brings it: " in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_scikit_image_is_told(folder, tool):
    (folder / "skimage.py").write_text("raise ImportError('not here')")
    done = command(TOOL, "rocket", env={"PYTHONPATH": str(folder), "PATH": ""})
    assert done.returncode == 1 and "the photo rocket is from scikit-image" in done.stderr
    assert "Traceback" not in done.stderr


def test_quickstart_is_trained_once(tmp_path, tool):
    for module in ("caffe", "skimage", "tqdm"):
        pytest.importorskip(module, reason="the quickstart trains in Caffe on scikit-image's photographs")
    shutil.copytree(
        EXPER / "quickstart", tmp_path / "quickstart", ignore=shutil.ignore_patterns("output", "__pycache__")
    )
    for path in (TOOL, EXPER / "gradient_figures.py"):
        shutil.copy(path, tmp_path)
    solver = tmp_path / "quickstart" / "solver.prototxt"
    text, count = re.subn(r"max_iter: \d+", "max_iter: 2", solver.read_text())
    assert count == 1
    solver.write_text(text)
    words = [tmp_path / TOOL.name, "rocket", "--classes", "rocket,background"]
    first, second = (command(*words, cwd=tmp_path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    assert "training the quickstart's network" in first.stderr and "phase one" in first.stdout
    assert "training" not in second.stderr
    assert size_of(tmp_path / "gradients" / "rocket_gradient.png")[0] == 1200
