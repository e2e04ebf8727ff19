"""The border's checks: what comes in, where results go, numbers."""

import fractions

import numpy as np
import pytest

from rloss_caffe.numerics.arrays import INT_MAX, bandwidth, finite_number, flag, output_array, real_array, whole_number


def test_what_kernels_trust_is_handed_on_as_it_is():
    array = np.ones((2, 3), np.float32)
    assert real_array("values", array) is array or np.shares_memory(real_array("values", array), array)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.astype(float),
        lambda a: a.astype(">f4"),
        lambda a: np.asfortranarray(a),
        lambda a: a.tolist(),
        lambda a: np.repeat(a, 2, 1)[:, ::2],
        lambda a: np.frombuffer(a.tobytes(), np.float32).reshape(a.shape),
    ],
)
def test_anything_else_is_copied(change):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = real_array("values", change(array), (2, "columns"))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.float32 and found.dtype.isnative
    assert found.flags.c_contiguous and found.flags.aligned and found.flags.writeable


@pytest.mark.parametrize(
    "value, options, message",
    [
        (np.ones(3, complex), {}, "values must hold real numbers, found dtype complex128"),
        (None, {}, "values must hold real numbers, found None"),
        ("text", {}, "values must hold real numbers, found 'text'"),
        (np.ones((2, 3)), {"shape": (3, "columns")}, r"values must have shape \(3, columns\), found shape \(2, 3\)"),
        (np.ones(3), {"shape": (..., "height", "width")}, r"shape \(..., height, width\), found shape \(3,\)"),
        (np.ones((0, 3)), {}, r"values is empty: its shape is \(0, 3\)"),
        ([1.0, np.nan], {"finite": True}, r"values must be finite, found nan at \(1,\)"),
        ([1.0, -1e39], {}, r"values must fit into single precision \(up to 3.4e38\), found -1e\+39 at \(1,\)"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), {}, "values must have a value everywhere"),
    ],
)
def test_what_is_refused(value, options, message):
    with pytest.raises(ValueError, match=message):
        real_array("values", value, **options)


def test_infinity_may_stay_where_it_is_asked_for_nothing_else():
    np.testing.assert_array_equal(real_array("values", [np.inf, -np.inf, 1.0]), [np.inf, -np.inf, 1])
    assert real_array("values", np.ones((0, 3)), allow_empty=True).shape == (0, 3)


def test_memory_that_is_shared():
    memory = np.zeros(24, np.float32)
    values, roi = memory[:12].reshape(3, 4), memory[20:]
    itself = output_array("out", values, (3, 4), apart_from={"roi": roi}, may_be={"values": values})
    assert itself is values
    with pytest.raises(ValueError, match="out must not share memory with roi"):
        output_array("out", memory[12:].reshape(3, 4), (3, 4), apart_from={"roi": roi})
    with pytest.raises(ValueError, match="out may be values itself, but must not overlap it otherwise"):
        output_array("out", memory[1:13].reshape(3, 4), (3, 4), may_be={"values": values})
    beside = memory[12:].reshape(3, 4)
    assert output_array("out", beside, (3, 4), may_be={"values": values}) is beside


def test_results_without_a_place_get_fresh_memory():
    found = output_array("out", None, (2, 3))
    assert found.shape == (2, 3) and found.dtype == np.float32
    with pytest.raises(ValueError, match=r"size is too large: out of shape \(2147483647, 2147483647\)"):
        output_array("out", None, (INT_MAX, INT_MAX))


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_whole_numbers(value):
    found = whole_number("size", value, 1, 3)
    assert found == 3 and type(found) is int


@pytest.mark.parametrize("value", [0, 4, -1, 3.0, "3", True, None, [3], np.array([3]), np.nan, 10**400, 1j])
def test_what_is_no_whole_number(value):
    with pytest.raises(ValueError, match="size must be a whole number from 1 to 3, found"):
        whole_number("size", value, 1, 3)


def test_bounds_are_named_where_they_matter():
    with pytest.raises(ValueError, match="size must be a whole number >= 1, found 0"):
        whole_number("size", 0, 1)
    with pytest.raises(ValueError, match="size must be a whole number from 1 to 2147483647, found 2147483648"):
        whole_number("size", 2**31, 1)


@pytest.mark.parametrize("value", [2, 2.0, np.float16(2), np.array(2.0), fractions.Fraction(2)])
def test_numbers(value):
    assert finite_number("w", value) == 2 and type(bandwidth("std", value)) is np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39, 10**400, "2", None, True, 1j, [2.0], np.array("2"), b"2"])
def test_what_is_no_finite_number(value):
    with pytest.raises(ValueError, match="w must be a (finite )?number"):
        finite_number("w", value)
    with pytest.raises(ValueError, match="std must be a (finite )?number > 0"):
        bandwidth("std", value)


def test_flags():
    assert flag("reverse", np.bool_(True)) is True and flag("reverse", 0) is False
    for value in ("False", 2, None, [], 0.0):
        with pytest.raises(ValueError, match="reverse must be True or False, found"):
            flag("reverse", value)


def test_messages_quote_little():
    for value in ("x" * 10**6, 10**5000, np.zeros((1000, 1000)), [0] * 10**6):
        with pytest.raises(ValueError) as error:
            whole_number("size", value)
        assert len(str(error.value)) < 200
