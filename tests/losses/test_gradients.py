"""The gradients of one image are those of the loss, before and behind the softmax."""

import inspect

import numpy as np
import pytest
from helpers.loss_nets import example, softmax

from rloss_caffe import densecrf_loss
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import compare_push, densecrf_gradients, find_loss, loss_gradients, push, takes_images
from rloss_caffe.numerics.parameters import parameters_of


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
    with pytest.raises(ValueError, match=r"image must have .*found"):
        densecrf_gradients(np.zeros(shape), np.zeros((2, 5, 5)))


def labels_of(height=14, width=19, classes=3):
    labels = np.full((height, width), 255)
    labels[3, 2:9], labels[10, 4:16] = classes - 1, 0
    return labels


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_by_name(name):
    """What its function gives for a batch of one, with labels and a region; the score's gradient by differences."""
    image, scores = example()
    labels, roi = labels_of(), np.ones((14, 19))
    roi[:2] = 0
    images = [image[None]] if takes_images(name) else []

    def call(array):
        probabilities = softmax(array).astype(np.float32)[None]
        return LOSSES[name](*images, probabilities, labels=labels[None], roi=roi[None])

    found = loss_gradients(name, image, softmax(scores), loss_weight=2, labels=labels, roi=roi)
    result = call(scores)
    assert found.value == pytest.approx(result.value, rel=1e-6)
    np.testing.assert_allclose(found.probability, result.gradient(2)[0], rtol=1e-5, atol=1e-12)
    assert np.abs(found.score.sum(axis=0)).max() < 1e-5 * np.abs(found.score).max()
    by_function = loss_gradients(LOSSES[name], image, softmax(scores), loss_weight=2, labels=labels, roi=roi)
    np.testing.assert_array_equal(by_function.score, found.score)


@pytest.mark.parametrize("name", LOSSES)
def test_names_and_parameters_of_the_registry(name):
    function = find_loss(name)
    assert function.__name__ == f"{name}_loss" and find_loss(function) is function
    assert {"labels", "roi"} <= set(inspect.signature(function).parameters)
    assert parameters_of(function)


def test_losses_and_parameters_that_are_not_known():
    image, scores = example()
    with pytest.raises(ValueError, match="loss must be one of densecrf, .*, found 'dense'"):
        loss_gradients("dense", image, softmax(scores))
    with pytest.raises(ValueError, match="loss must be one of densecrf, .*, or its function, found 3"):
        loss_gradients(3, image, softmax(scores))
    with pytest.raises(ValueError, match="densecrf_loss has no parameter 'radius'; it has bi_xy_std, bi_rgb_std"):
        loss_gradients("densecrf", image, softmax(scores), radius=3)
    with pytest.raises(ValueError, match="image must hold real numbers, found None"):
        loss_gradients("densecrf", None, softmax(scores))
    assert not takes_images("size_constraint")
    assert loss_gradients("size_constraint", None, softmax(scores), lower=200).value > 0


def test_push_is_the_sum_of_sizes():
    assert push(np.array([[1.5, -2], [0, 0.25]])) == 3.75


def test_the_cross_entropy_is_caffes(tmp_path):
    """SoftmaxWithLoss with ignore_label in a real net: the sum of its gradient's sizes on the scores."""
    caffe = pytest.importorskip("caffe")
    (tmp_path / "net.prototxt").write_text(
        """layer { name: "data" type: "Input" top: "score" top: "label"
          input_param { shape { dim: 1 dim: 3 dim: 14 dim: 19 } shape { dim: 1 dim: 1 dim: 14 dim: 19 } } }
        layer { name: "scaled" type: "Scale" bottom: "score" top: "scaled" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "scaled" bottom: "label" top: "loss"
          loss_param { ignore_label: 255 } }"""
    )
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
    image, scores = example()
    net.blobs["score"].data[...] = scores
    net.blobs["label"].data[...] = labels_of()
    net.forward()
    net.backward()
    expected = np.abs(net.blobs["scaled"].diff).sum()
    gradient = densecrf_gradients(image, softmax(scores), 5, 20, loss_weight=1e-3).score
    found = compare_push(gradient, softmax(scores), labels_of())
    assert found.labelled == 19 and found.cross_entropy == pytest.approx(expected, rel=1e-5)
    assert found.loss == pytest.approx(np.abs(gradient).sum(), rel=1e-5)
    assert found.share == pytest.approx(found.loss / (found.loss + expected), rel=1e-5) and 0.01 < found.share < 0.99
    nothing = compare_push(gradient, softmax(scores), np.full((14, 19), 255))
    assert (nothing.labelled, nothing.cross_entropy, nothing.share) == (0, 0, 1)
    assert compare_push(0 * gradient, softmax(scores), np.full((14, 19), 255)).share == 0
    with pytest.raises(ValueError, match="labels must be whole numbers from 0 to 2"):
        compare_push(gradient, softmax(scores), np.full((14, 19), 3))
