"""The gradients are shown as they are, with scales and words that fit."""

import dataclasses
import re

import numpy as np
import pytest
from helpers.loss_nets import example, softmax

from rloss_caffe.datasets import voc
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import Push, densecrf_gradients
from rloss_caffe.numerics.parameters import parameters_of
from rloss_caffe.pictures import gradient_figures as figures

pytest.importorskip("matplotlib", minversion="3.7")
pytest.importorskip("cv2", reason="images are read with OpenCV")


def result_of(height=120, width=160, name="example", label=None):
    image, scores = example(height, width, classes=4)
    scores[2, :, : width // 2] += 3
    scores[0, :, width // 2 :] += 3
    photo = np.ascontiguousarray(np.clip(image.transpose(1, 2, 0) + 120, 0, 255).astype(np.uint8))
    probabilities = softmax(scores).astype(np.float32)
    settings = figures.Settings("densecrf", {"bi_xy_std": 30.0, "bi_rgb_std": 15.0, "exact_gradient": False}, 1e-6)
    found = densecrf_gradients(image, probabilities, 30, 15, 1e-6)
    names = ["background", "dog", "diningtable", "pottedplant"]
    return figures.Result(
        name, photo, label, probabilities, found.score, found.probability, found.value, names, settings, "made up"
    )


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


def test_figure_shows_the_arrays_on_symmetric_common_scales():
    result = result_of()
    figure = figures.draw_result(result, [0, 2])
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
    limit = figures.number(np.percentile(np.abs(result.score[[0, 2]]), 99.5))
    assert bars[0] == ["0", "0.5", "1"] and bars[1] == [f"\u2212{limit}", "0", limit]
    words = " ".join(text.get_text() for text in texts(figure))
    assert figures.number(result.loss) in words and "loss weight 1e-06" in words
    assert "bi_xy_std 30, bi_rgb_std 15" in words and "diningtable" in words
    assert re.search(r"Red .above 0. pushes the\s+class down", words) and "Classes not shown: 2 of 4" in words
    assert figure.canvas.get_width_height()[0] == 1200


def test_red_is_positive():
    picture = figures.gradient_picture(np.array([[-1.0, 0, 1, 9]]), 1.0)
    assert picture[0, 0, 2] > picture[0, 0, 0] and picture[0, 2, 0] > picture[0, 2, 2]
    assert picture[0, 1].min() > 240 and (picture[0, 2] == picture[0, 3]).all()


@pytest.mark.parametrize("height, width, pixels", [(120, 160, 1200), (160, 60, 1200), (40, 200, 900), (9, 11, 1600)])
def test_nothing_is_clipped(height, width, pixels):
    result = result_of(height, width, name="a_photo_with_a_name_that_is_much_longer_than_anybody_would_wish" * 2)
    assert_nothing_is_clipped(figures.draw_result(result, [0, 1, 2], pixels))
    trials = [
        figures.Trial((xy, rgb), -1.234e9, result.score[2], 12.3456, 1.2345e-5, 0.12345)
        for xy in (2.5, 100)
        for rgb in ([5, 10, 20, 40] if pixels > 900 else [5, 20])
    ]
    notes = "16 threads, the best of 3 runs"
    assert_nothing_is_clipped(figures.draw_sweep(result, 2, ["bi_xy_std", "bi_rgb_std"], trials, notes, pixels))


def test_labels_that_were_given_are_shown():
    label = np.full((120, 160), 255, np.uint8)
    label[20, 10:60] = 2
    result = result_of(label=label)
    figure = figures.draw_result(result, [2])
    picture = axes_of(figure)["labels"][0].images[0].get_array()
    assert tuple(picture[20, 30]) == tuple(voc.palette()[2])
    np.testing.assert_array_equal(picture[60:], result.photo[60:])
    assert "the labels given" in [text.get_text() for text in texts(figure)]


def test_sweep_scales_each_trial():
    result = result_of()
    trials = [
        figures.Trial((xy, rgb), -10.0 * xy, xy * result.score[2], 0.25, 7.5, 0.5)
        for xy in (20.0, 60.0)
        for rgb in (5.0, 12.0)
    ]
    figure = figures.draw_sweep(result, 2, ["bi_xy_std", "bi_rgb_std"], trials, "1 thread")
    axes = axes_of(figure)
    assert set(axes) == {"photo", "probability", "bar"} | {f"trial {a} {b}" for a in (20, 60) for b in (5, 12)}
    for trial in trials:
        shown = axes["trial {:g} {:g}".format(*trial.values)][0].images[0]
        assert shown.get_clim() == (-1, 1)
        limit = np.percentile(np.abs(trial.gradient), 99.5)
        np.testing.assert_allclose(shown.get_array(), trial.gradient / limit, rtol=1e-5)
    boxes = {name: axes[name][0].get_position() for name in axes if name.startswith("trial")}
    assert boxes["trial 20 5"].x0 < boxes["trial 20 12"].x0 and boxes["trial 20 5"].y0 > boxes["trial 60 5"].y0
    words = [text.get_text() for text in texts(figure)]
    assert "loss \u2212600,  250 ms" in words and "bi_xy_std 60, bi_rgb_std 12" in words
    assert any(word.endswith("push 7.5, 50 %") for word in words)


def test_edges_are_where_the_photo_changes():
    photo = np.full((60, 80, 3), 60, np.uint8)
    photo[:, 40:] = 200
    photo[10:12, 10:12] = 255  # a speck
    edges = figures.image_edges(photo)
    assert edges[:, 38:42].any(axis=1).mean() > 0.9
    edges[:, 38:42] = False
    assert not edges.any()
    assert not figures.image_edges(np.full((20, 20, 3), 99, np.uint8)).any()


@pytest.mark.parametrize("pixels", [40, 300, 2000])
def test_edges_are_seen_whatever_the_size_of_the_photo(pixels):
    result = result_of(40, 60)
    grown = np.ones((1, pixels // 20, pixels // 20))
    photo = np.full((2 * pixels // 3, pixels, 3), 60, np.uint8)
    photo[:, pixels // 2 :] = 200
    arrays = {name: np.kron(getattr(result, name)[:, :14, :19], grown) for name in ("probabilities", "score")}
    figure = figures.draw_result(dataclasses.replace(result, photo=photo, probability=arrays["score"], **arrays), [0])
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


def test_labels_of_a_large_photo_are_drawn_at_the_size_of_the_panel():
    result = result_of(600, 900)
    label = np.full((600, 900), 255, np.uint8)
    label[300, 100:800] = 2
    caption, picture, named = figures.label_panel(dataclasses.replace(result, label=label), (300, 200))
    assert caption == "the labels given" and picture.shape == (200, 300, 3) and (named[99:102, 100] == 2).all()
    assert (picture[100, 100] == voc.palette()[2]).all()
    caption, picture, named = figures.label_panel(result, (300, 200))
    assert caption == "class of highest probability" and named.shape == (200, 300)


def test_bars_above_narrow_panels_are_wide():
    figure = figures.draw_result(result_of(160, 30), [0, 2])
    figure.canvas.draw()
    for bar in axes_of(figure)["bar"]:
        boxes = [tick.get_window_extent() for tick in bar.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_numbers():
    values = [0, 0.5, 0.00123, 0.000123, -123.4, 2427.3, -5e6, 999.9]
    expected = ["0", "0.5", "0.00123", "1.23e\u221204", "\u2212123", "2.43e+03", "\u22125.00e+06", "1.00e+03"]
    assert [figures.number(value) for value in values] == expected


def comparison_of(result, losses):
    """The same gradients under other names, as if these losses pushed alike."""
    parameters = {name: {each.name: each.default for each in parameters_of(LOSSES[name])} for name in losses}
    return [
        dataclasses.replace(result, settings=figures.Settings(name, parameters[name], 0.0123456)) for name in losses
    ]


def test_comparison_has_one_scale():
    result = result_of()
    results = comparison_of(result, ["densecrf", "size_constraint"])
    results[1] = dataclasses.replace(results[1], score=3 * result.score)
    figure = figures.draw_comparison(results, [0, 2])
    axes = axes_of(figure)
    names = {f"{kind} {k}" for kind in ("probability", "densecrf", "size_constraint") for k in (0, 2)}
    assert set(axes) == {"photo", "labels", "bar"} | names and len(axes["bar"]) == 2
    limit = np.percentile(np.abs(np.stack([each.score[[0, 2]] for each in results])), 99.5)
    for k in (0, 2):
        for each in results:
            shown = axes[f"{each.settings.loss} {k}"][0].images[0]
            np.testing.assert_array_equal(shown.get_array(), each.score[k])
            assert shown.get_clim() == pytest.approx((-limit, limit))
    words = " ".join(text.get_text() for text in texts(figure))
    assert "example: 2 losses at equal push" in words and words.count("loss weight 0.0123") == 2
    assert "DenseCRF loss" in words and "bi_xy_std 15, bi_rgb_std 40" in words and "Classes not shown: 2 of 4" in words


@pytest.mark.parametrize("height, width, pixels", [(120, 160, 1200), (160, 60, 900), (40, 200, 900)])
def test_nothing_of_a_comparison_is_clipped(height, width, pixels):
    result = result_of(height, width, name="a_photo_with_a_name_that_is_much_longer_than_anybody_would_wish" * 2)
    result = dataclasses.replace(result, push=Push(0.123456, 1.23456, 1234567))
    for losses in (["densecrf", "local_potts"], list(LOSSES)):
        assert_nothing_is_clipped(figures.draw_comparison(comparison_of(result, losses), [0, 1, 2], pixels))


def test_bars_of_a_comparison_can_be_read():
    figure = figures.draw_comparison(comparison_of(result_of(160, 60), list(LOSSES)), [0, 2], 900)
    figure.canvas.draw()
    for bar in axes_of(figure)["bar"]:
        boxes = [tick.get_window_extent() for tick in bar.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_labels_given_beside_a_net_are_on_the_photo():
    result = result_of()
    given = np.full((120, 160), 255, np.uint8)
    given[20, 10:60] = 2
    caption, picture = figures.photo_panel(dataclasses.replace(result, given=given), (160, 120))
    assert caption == "photo and the labels given" and tuple(picture[20, 30]) == tuple(voc.palette()[2])
    assert figures.photo_panel(result, (160, 120))[0] == "photo"
    words = " ".join(
        text.get_text()
        for text in texts(figures.draw_result(dataclasses.replace(result, push=Push(1.0, 3.0, 50)), [0]))
    )
    assert "Of the push on the scores 25 % is the loss's" in words and "50 labelled pixels (1 and 3)" in words


@pytest.mark.parametrize("name", LOSSES)
def test_settings_in_words(name):
    parameters = {each.name: each.default for each in parameters_of(LOSSES[name])}
    text = figures.Settings(name, parameters, 1.0).text()
    assert "ignore_label" not in text and (text == "all parameters are defaults") == (name == "size_constraint")
    assert "ignore_label 3" in figures.Settings(name, {**parameters, "ignore_label": 3}, 1.0).text()
    assert figures.loss_title(name)[-1] != "_" and "_" not in figures.loss_title(name)
