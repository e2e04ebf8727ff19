"""The replacement of the C++/SWIG module ``bilateralfilter``."""

import numpy as np
import pytest

from rloss_caffe import bilateral_filter
from rloss_caffe.bilateralfilter import bilateralfilter, bilateralfilter_batch


def inputs():
    rng = np.random.RandomState(0)
    images = (rng.rand(2, 3, 11, 13) * 255).astype(np.float32)
    return images, rng.rand(2, 4, 11, 13).astype(np.float32)


def test_one_image():
    images, values = inputs()
    out = np.zeros(4 * 11 * 13, np.float32)
    assert bilateralfilter(images[0].flatten(), values[0].flatten(), out, 11, 13, 15.0, 8.0) is None
    np.testing.assert_array_equal(out.reshape(4, 11, 13), bilateral_filter(images[0], values[0], 8, 15))


def test_batch_in_the_order_of_the_original_call():
    images, values = inputs()
    out = np.zeros_like(values).flatten()
    bilateralfilter_batch(images.flatten(), values.flatten(), out, 2, 4, 11, 13, 15.0, 8.0)
    for index in range(2):
        expected = bilateral_filter(images[index], values[index], 8, 15, num_threads=1)
        np.testing.assert_array_equal(out.reshape(values.shape)[index], expected)


def test_arrays_that_do_not_fit():
    images, values = inputs()
    image, value = images[0].flatten(), values[0].flatten()
    out = np.zeros_like(value)
    with pytest.raises(ValueError, match=r"image must hold 3 \* 11 \* 13 values, found 428"):
        bilateralfilter(image[:-1], value, out, 11, 13, 15, 8)
    with pytest.raises(ValueError, match="values must hold K"):
        bilateralfilter(image, value[:-1], out, 11, 13, 15, 8)
    with pytest.raises(ValueError, match="out must hold"):
        bilateralfilter(image, value, out[:-3], 11, 13, 15, 8)
    with pytest.raises(ValueError, match="out must be a C-contiguous float32"):
        bilateralfilter(image, value, out.astype(float), 11, 13, 15, 8)
    with pytest.raises(ValueError, match="outs must be"):
        bilateralfilter_batch(images, values, [0.0] * values.size, 2, 4, 11, 13, 15, 8)
