"""Nets segment single images as their own data layer would have them."""

import re

import numpy as np
import pytest
from helpers.segmentations import INPUT, JUDGE, NETS, SCORE, SEG_DATA, STOCK_DATA, read, write_list, write_net


@pytest.fixture
def root(tmp_path):
    return write_list(tmp_path)


@pytest.mark.parametrize("name", [name for name in NETS if name != "coarse"])
def test_nets_segment_as_they_should(root, name):
    net, weights = write_net(root, name)
    from rloss_caffe.nets.segmenter import Segmenter

    segmenter = Segmenter(net, weights)
    assert (segmenter.data, segmenter.score, segmenter.n_classes) == ("data", "score", 13)
    for index in range(4):  # some smaller than the crop, some larger
        photo = read(root / "images" / f"im{index}.png")
        expected = np.where(photo.mean(axis=2) > 110, 12, 0)
        np.testing.assert_array_equal(segmenter.predict(root / "images" / f"im{index}.png"), expected)


def test_the_same_counts_as_in_the_net_itself(root):
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
        np.subtract.at(expected.counts, (mask[mask != 255], label[mask != 255]), 1)
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


def test_types_that_caffe_does_not_know_and_the_old_form(root):
    """Both would end the process, or give an empty net."""
    net, weights = write_net(root, "input")
    from rloss_caffe.nets.segmenter import Segmenter

    expected = Segmenter(net, weights).predict(root / "images" / "im0.png")
    odd = SCORE.replace("Convolution", "Nonsense").replace("score", "odd").replace('"data"', '"score"')
    net.write_text(INPUT + SCORE + odd)
    with pytest.raises(ValueError, match="layer 'odd' has type 'Nonsense', which this Caffe does not know"):
        Segmenter(net, weights)
    old = SCORE.replace("layer {", "layers {").replace('"Convolution"', "CONVOLUTION")
    net.write_text('input: "data" input_dim: 1 input_dim: 3 input_dim: 48 input_dim: 48 ' + old)
    found = Segmenter(net, weights)
    assert found.score == "score" and found.predict(root / "images" / "im0.png").shape == expected.shape
