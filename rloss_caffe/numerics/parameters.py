"""Parameters declared once: name, kind, default, bounds and meaning, beside the function that takes them.

Whoever needs them reads the declaration: a function its defaults and its docstring, a Caffe layer the check of its
``param_str``, the pages of `prototxt/` their comments, the README its tables.
"""

import struct
import textwrap
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import numpy as np

from rloss_caffe.numerics.arrays import INT_MAX, flag, shown, whole_number

__all__ = ["Parameter", "ParameterError", "as_comment", "as_docstring", "as_table", "documented", "parameters_of"]

INT_MIN = -INT_MAX - 1  # Caffe's sizes and labels are C ints


class ParameterError(ValueError):
    """A parameter that cannot be understood; the text says what was found and what is known."""


@dataclass(frozen=True)
class Parameter:
    """One known parameter.

    Parameters
    ----------
    name : str
        The name as in the original prototxt.
    kind : {"float", "int", "bool", "string"}
        What one value must be. A whole number is accepted for a float; a bool never counts as a number. A float must
        be finite in single precision, and an int must fit 32 bits unless `minimum` and `maximum` say otherwise.
    default : object
        Value when the parameter is not given. ``None`` (nothing given) and lists are allowed.
    minimum, above, maximum : float, optional
        Inclusive lower bound, exclusive lower bound, inclusive upper bound, for each value.
    choices : sequence, optional
        The allowed values.
    repeated : bool
        A list of values; a single value stands for a list of one.
    required : bool
        The parameter must be given.
    doc : str
        Meaning and unit, one or two short sentences.
    """

    name: str
    kind: str
    default: Any = None
    minimum: Optional[float] = None
    above: Optional[float] = None
    maximum: Optional[float] = None
    choices: Optional[Sequence] = None
    repeated: bool = False
    required: bool = False
    doc: str = ""

    def __post_init__(self):
        if self.kind not in _CONVERTERS:
            raise ValueError(f"kind must be one of {', '.join(_CONVERTERS)}, got {self.kind!r}")

    def expectation(self):
        """What a value must be, in words: ``float > 0``."""
        text = self.kind
        if self.choices is not None:
            text = "one of " + ", ".join(map(str, self.choices))
        if self.above is not None:
            text += f" > {self.above:g}"
        if self.minimum is not None and self.maximum is not None:
            text += f" from {_number(self.minimum)} to {_number(self.maximum)}"
        elif self.minimum is not None:
            text += f" >= {_number(self.minimum)}"
        elif self.maximum is not None:
            text += f" <= {_number(self.maximum)}"
        return "list of " + text if self.repeated else text

    def default_text(self):
        """The default in words: ``15``, ``false``, ``none`` where nothing is given, ``required``."""
        if self.required:
            return "required"
        if self.default is None or self.default == [] or self.default == "":
            return "none"
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)

    def convert(self, value):
        """The checked value; raises ValueError, whose text may say why `value` does not fit."""
        if not self.repeated:
            return self._convert_one(value)
        return [self._convert_one(item) for item in (value if isinstance(value, (list, tuple)) else [value])]

    def _convert_one(self, value):
        value = _CONVERTERS[self.kind](value)
        if self.choices is not None and value not in self.choices:
            raise ValueError
        # Kernels take floats in single precision: 1e-50 is 0 there, and must not count as a bandwidth > 0.
        rounded = _single(value) if self.kind == "float" else value
        if self.above is not None and not rounded > self.above:
            raise ValueError
        minimum, maximum = self.minimum, self.maximum
        if self.kind == "int":
            minimum, maximum = (INT_MIN if minimum is None else minimum), (INT_MAX if maximum is None else maximum)
        if minimum is not None and not rounded >= minimum:
            raise ValueError("" if self.minimum is not None else "too small for 32 bits")
        if maximum is not None and not rounded <= maximum:
            raise ValueError("" if self.maximum is not None else "too large for 32 bits")
        return value

    def checked(self, value):
        """A function's argument, checked: also NumPy's numbers are taken, and no float for a whole number.

        Raises
        ------
        ValueError
            It does not fit; the text names the parameter, what was expected and what was found.
        """
        if self.repeated:
            is_list = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0)
            return [self._checked_one(item, value) for item in (value if is_list else [value])]
        return self._checked_one(value, value)

    def _checked_one(self, value, given):
        if self.kind == "bool":
            return flag(self.name, value)
        if self.kind == "int":
            value = whole_number(self.name, value)
        elif isinstance(value, (np.generic, np.ndarray)) and value.ndim == 0 and value.dtype.kind in "fiu":
            value = value.item()
        try:
            return self._convert_one(value)
        except ValueError as error:
            reason = f", {error}" if str(error) else ""
            raise ValueError(f"{self.name} must be {self.expectation()}, found {shown(given)}{reason}") from None

    def __str__(self):
        default = self.default_text() if self.required else f"default {self.default_text()}"
        return f"{self.name} ({self.expectation()}, {default})" + (f": {self.doc}" if self.doc else "")


def as_table(parameters):
    """The parameters as a Markdown table with the columns parameter, value, default, meaning.

    Parameters
    ----------
    parameters : sequence of Parameter

    Returns
    -------
    str
        One line a parameter under two lines of heading; the last line has no line end.
    """
    lines = ["| parameter | value | default | meaning |", "|---|---|---|---|"]
    for each in parameters:
        cells = f"`{each.name}`", each.expectation(), each.default_text(), each.doc
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def as_docstring(parameters, indent=""):
    """The parameters as entries of a NumPy-style docstring section, without its heading."""
    lines = []
    for each in parameters:
        default = each.default_text() if each.required else f"default {each.default_text()}"
        lines.append(f"{indent}{each.name} : {each.expectation()}, {default}")
        lines.extend(textwrap.wrap(each.doc, 120, initial_indent=f"{indent}    ", subsequent_indent=f"{indent}    "))
    return "\n".join(lines)


def as_comment(parameters, indent=""):
    """The parameters as comment lines of a prototxt: name, meaning, value and default."""
    width = 2 + max(len(each.name) for each in parameters)
    lines = []
    for each in parameters:
        default = each.default_text() if each.required else f"default {each.default_text()}"
        text = f"{each.doc} ({each.expectation()}, {default})".lstrip()
        first, rest = f"{indent}# {each.name:<{width}}", f"{indent}# {'':<{width}}"
        lines.extend(textwrap.wrap(text, 120, initial_indent=first, subsequent_indent=rest, break_long_words=False))
    return "\n".join(lines)


def documented(parameters):
    """A decorator that puts the parameters in the place of the line ``{parameters}`` of a docstring.

    `parameters_of` then finds them.
    """

    def decorate(function):
        function.__doc__ = fill(function.__doc__, parameters)
        function._parameters = tuple(parameters)
        return function

    return decorate


def parameters_of(function):
    """The declarations that a function was `documented` with: a tuple of Parameter."""
    return function._parameters


def fill(text, parameters):
    """`text` with the parameters' docstring entries in the place of its line ``{parameters}``; None stays None."""
    if text is None:  # python -OO
        return None
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        lines.append(as_docstring(parameters, indent) if line.strip() == "{parameters}" else line)
    return "\n".join(lines)


def _number(bound):
    return f"{bound:g}" if abs(bound) < 1e5 else str(bound)


def _single(value):
    """A double rounded to single precision; OverflowError where single precision ends."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def _to_float(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    try:
        value = float(value)
        finite = abs(_single(value)) < float("inf")
    except OverflowError:
        raise ValueError("beyond the range of single precision, which ends at 3.4e38") from None
    if not finite:  # NaN or infinity
        raise ValueError
    return value


def _to_int(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError
    if isinstance(value, float) and not value.is_integer():  # neither are NaN and infinity
        raise ValueError
    return int(value)


def _to_bool(value):
    if not isinstance(value, bool):
        raise ValueError
    return value


def _to_string(value):
    if not isinstance(value, str):
        raise ValueError
    return value


_CONVERTERS = {"float": _to_float, "int": _to_int, "bool": _to_bool, "string": _to_string}
