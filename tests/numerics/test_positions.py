"""Where the samples of an interpolation lie, on short and on very long axes."""

from fractions import Fraction

import numpy as np
import pytest

from rloss_caffe.numerics.interpolation import _EXACT_LENGTH, _samples, interpolate, interpolate_adjoint


@pytest.mark.parametrize(
    "length, output_length",
    [(2**25 + 1, 7), (2**25 + 3, 2**25 + 2), (7, 2**25 + 1), (2**24 + 4, 3), (2**23 - 1, 2**23 + 5), (2**26 + 1, 1)],
)
def test_long_axes_are_exact(length, output_length):
    first, second, fraction = _samples(length, output_length, "bilinear")
    assert first.min() >= 0 and first.max() <= length - 1 and second.max() <= length - 1
    for index in {0, 1, output_length // 3, output_length - 2, output_length - 1} & set(range(output_length)):
        exact = Fraction(index * (length - 1), max(1, output_length - 1))
        assert first[index] == exact.numerator // exact.denominator
        assert fraction[index] == pytest.approx(float(exact - int(first[index])), abs=1e-7)


def test_positions_in_single_precision_stay_inside():
    """Random sizes up to where whole numbers take over, the last sample among them."""
    rng = np.random.RandomState(0)
    for _ in range(300):
        length, output_length = (int(2 ** rng.uniform(0, np.log2(_EXACT_LENGTH))) for _ in range(2))
        output_length = min(output_length, 20000)
        first, second, fraction = _samples(length, output_length, "bilinear")
        assert first.max() <= length - 1 and (np.diff(first) >= 0).all() and second.max() <= length - 1
        assert fraction.min() >= 0 and fraction.max() <= 1


def test_a_long_axis_goes_through_forward_and_back():
    length = 2**25 + 3  # single precision rounds this length up
    values = np.zeros((1, length), np.float32)
    values[0, [0, length // 2, length - 1]] = 1, 2, 3
    np.testing.assert_array_equal(interpolate(values, (1, 3)), [[1, 2, 3]])
    back = interpolate_adjoint(np.float32([[5, 6, 7]]), (1, length))
    np.testing.assert_array_equal(back[0, [0, length // 2, length - 1]], [5, 6, 7])
    assert np.count_nonzero(back) == 3


@pytest.mark.parametrize("pad_beg, pad_end", [(2, 2), (0, 40), (-40, 60), (-20, 0), (0, -6), (-3, -3)])
def test_crops_beyond_the_image_are_refused(pad_beg, pad_end):
    values = np.zeros((1, 2, 6, 6), np.float32)
    with pytest.raises(ValueError, match="can only crop|nothing is left"):
        interpolate(values, (4, 4), pad_beg, pad_end)
    with pytest.raises(ValueError, match="can only crop|nothing is left"):
        interpolate_adjoint(values, (6, 6), pad_beg, pad_end)
