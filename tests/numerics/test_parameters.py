"""Declared parameters: what a value must be, and how a declaration reads in tables, docstrings and comments."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rloss_caffe.numerics.parameters import Parameter, as_comment, as_table, documented

PARAMETERS = [
    Parameter("bi_xy_std", "float", 15.0, above=0, doc="Spatial bandwidth in pixels."),
    Parameter("mode", "string", "bilinear", choices=("bilinear", "nearest"), doc="A | B."),
    Parameter("ignore_label", "int", [], repeated=True, minimum=0, maximum=255),
    Parameter("source", "string", required=True, doc="A list. " + "Long words follow. " * 10),
    Parameter("reset", "bool", True),
]


def test_table():
    lines = as_table(PARAMETERS).split("\n")
    assert lines[:4] == [
        "| parameter | value | default | meaning |",
        "|---|---|---|---|",
        "| `bi_xy_std` | float > 0 | 15 | Spatial bandwidth in pixels. |",
        "| `mode` | one of bilinear, nearest | bilinear | A \\| B. |",
    ]
    assert "| `ignore_label` | list of int from 0 to 255 | none |  |" in lines
    assert "| `reset` | bool | true |  |" in lines and "| string | required |" in lines[5]


def test_comment_lines_fit_and_hold_every_word():
    lines = as_comment(PARAMETERS, "    ").split("\n")
    assert lines[0] == "    # bi_xy_std     Spatial bandwidth in pixels. (float > 0, default 15)"
    assert all(line.startswith("    # ") and len(line) <= 120 for line in lines)
    assert " ".join(" ".join(line.strip(" #") for line in lines).split()).count("Long words follow.") == 10


def test_docstrings():
    @documented(PARAMETERS[:2])
    def function():
        """Does it.

        Parameters
        ----------
        {parameters}
        out : array
        """

    text = inspect.getdoc(function)  # Python 3.13 takes the indentation away by itself
    assert "\nbi_xy_std : float > 0, default 15\n    Spatial bandwidth in pixels.\n" in text
    assert "{parameters}" not in text and text.endswith("out : array")


def test_kinds_are_checked():
    with pytest.raises(ValueError, match="kind must be one of float"):
        Parameter("a", "number")


numbers = st.floats() | st.integers() | st.sampled_from([3.4028235e38, 3.4028236e38, 1e-46, 2**31, 2**31 - 1, -(2**31)])


@settings(deadline=None)
@given(numbers)
def test_a_float_is_what_single_precision_holds(value):
    with np.errstate(over="ignore"):
        single = np.float32(value) if abs(value) < 1e300 else np.inf
    for parameter, fits in ((Parameter("a", "float"), True), (Parameter("a", "float", above=0), single > 0)):
        if np.isfinite(single) and fits:
            assert parameter.convert(value) == float(value)
        else:
            with pytest.raises(ValueError):
                parameter.convert(value)


@settings(deadline=None)
@given(numbers)
def test_an_int_is_what_32_bits_hold(value):
    whole = np.isfinite(value) if isinstance(value, float) else True
    if whole and value == int(value) and -(2**31) <= value < 2**31:
        assert Parameter("a", "int").convert(value) == value
    else:
        with pytest.raises(ValueError):
            Parameter("a", "int").convert(value)
    assert Parameter("seed", "int", maximum=2**32 - 1).convert(2**32 - 1) == 2**32 - 1


def test_arguments_of_functions_are_checked_as_declared():
    number = Parameter("weight", "float", 1.0, minimum=0, maximum=9)
    for given_value in (3, 3.0, np.float32(3), np.int64(3), np.array(3)):
        assert number.checked(given_value) == 3
    for bad in (-1, 10, True, "3", None, [3], np.nan, 1e39, 10**5000, np.array([3.0]), np.datetime64(3, "s"), 1j):
        with pytest.raises(ValueError, match="weight must be float from 0 to 9, found "):
            number.checked(bad)
    whole = Parameter("ignore_label", "int", 255)
    assert whole.checked(np.uint8(3)) == 3
    for bad in (3.0, True, "3", None, 2**31):
        with pytest.raises(ValueError, match="ignore_label must be "):
            whole.checked(bad)
    assert Parameter("on", "bool").checked(np.bool_(True)) is True
    several = Parameter("lower", "float", [], minimum=-1, repeated=True)
    for given_value in ([1, 2], (1, np.float32(2)), np.array([1, 2], np.float32)):
        assert several.checked(given_value) == [1, 2]
    assert several.checked(4) == [4] and several.checked([]) == []
    for bad in ([1, None], [[1]], [[1], [2, 3]], "12", {1}, None, [-2]):
        with pytest.raises(ValueError, match="lower must be list of float >= -1, found "):
            several.checked(bad)
    with pytest.raises(ValueError, match="mode must be one of bilinear, nearest, found 'Nearest'"):
        PARAMETERS[1].checked("Nearest")
