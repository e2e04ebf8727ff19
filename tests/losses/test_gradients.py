"""The gradients of one image are those of the loss, before and behind the softmax."""

import numpy as np
import pytest
from helpers.loss_nets import example, softmax

from rloss_caffe import densecrf_loss
from rloss_caffe.losses.gradients import densecrf_gradients


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
