"""The replacement of the C++/SWIG module ``bilateralfilter``."""

import inspect

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


@pytest.mark.parametrize("values_name", ["values", "in", "in_", "_in", "arg2"])
def test_one_image_with_the_names_of_any_swig(values_name):
    images, values = inputs()
    expected, out = np.zeros(values[0].size, np.float32), np.zeros(values[0].size, np.float32)
    bilateralfilter(images[0], values[0], expected, 11, 13, 15.0, 8.0)
    bilateralfilter(images[0], out=out, H=11, W=13, sigmargb=15.0, sigmaxy=8.0, **{values_name: values[0]})
    np.testing.assert_array_equal(out, expected)


def test_batch_with_the_names_of_swig():
    images, values = inputs()
    expected, outs = np.zeros(values.size, np.float32), np.zeros(values.size, np.float32)
    bilateralfilter_batch(images, values, expected, 2, 4, 11, 13, 15.0, 8.0)
    bilateralfilter_batch(images=images, ins=values, outs=outs, N=2, K=4, H=11, W=13, sigmargb=15.0, sigmaxy=8.0)
    np.testing.assert_array_equal(outs, expected)
    outs[...] = 0
    bilateralfilter_batch(images, values, outs, 2, 4, 11, 13, sigma_xy=8.0, sigma_rgb=15.0)
    np.testing.assert_array_equal(outs, expected)


def test_names_that_do_not_fit():
    images, values = inputs()
    outs = np.zeros_like(values)
    sizes = {"N": 2, "K": 4, "H": 11, "W": 13}
    with pytest.raises(TypeError, match=r"bilateralfilter_batch\(\) got an argument twice: as sigma_xy and as sigmaxy"):
        bilateralfilter_batch(images, values, outs, **sizes, sigma_rgb=15.0, sigma_xy=8.0, sigmaxy=8.0)
    with pytest.raises(TypeError, match=r"bilateralfilter_batch\(\) got multiple values for argument 'values'"):
        bilateralfilter_batch(images, values, ins=values, outs=outs, **sizes, sigma_rgb=15.0, sigma_xy=8.0)
    with pytest.raises(TypeError, match=r"bilateralfilter_batch\(\).*'sigmaRGB'"):
        bilateralfilter_batch(images, values, outs, **sizes, sigmaRGB=15.0, sigma_xy=8.0)
    assert list(inspect.signature(bilateralfilter).parameters)[-2:] == ["sigma_rgb", "sigma_xy"]


def test_read_only_arrays():
    images, values = inputs()
    outs, expected = np.zeros_like(values), np.zeros_like(values)
    bilateralfilter_batch(images, values, expected, 2, 4, 11, 13, 15.0, 8.0)
    for array in (images, values):
        array.setflags(write=False)
    bilateralfilter_batch(images, values, outs, 2, 4, 11, 13, 15.0, 8.0)
    np.testing.assert_array_equal(outs, expected)
    outs.setflags(write=False)
    with pytest.raises(ValueError, match="outs must be writeable, found a read-only array"):
        bilateralfilter_batch(images, values, outs, 2, 4, 11, 13, 15.0, 8.0)
    with pytest.raises(ValueError, match="out must be writeable, found a read-only array"):
        bilateralfilter(images[0], values[0], outs[0], 11, 13, 15.0, 8.0)


def test_arrays_over_memory_of_others():
    """As a tensor's own numpy() gives them: views of memory that NumPy does not own."""
    images, values = inputs()
    expected = np.zeros_like(values)
    bilateralfilter_batch(images, values, expected, 2, 4, 11, 13, 15.0, 8.0)
    lent = [np.frombuffer(bytearray(array.tobytes()), np.float32) for array in (images, values, np.zeros_like(values))]
    bilateralfilter_batch(*lent, 2, 4, 11, 13, 15.0, 8.0)
    np.testing.assert_array_equal(lent[2].reshape(values.shape), expected)
