"""The one reader of every layer's ``param_str``: YAML, JSON or a Python dict literal, checked against a schema.

Nothing is ever evaluated. Plain YAML has traps that this reader closes: ``1e-8`` is a number (YAML 1.1 wants
``1.0e-8``), ``None`` is no string, a tuple is a list, an empty text is an empty mapping, a repeated key is an error.
"""

import ast
import difflib
import json
import math
import re

import yaml

__all__ = ["Parameter", "ParameterError", "Parameters", "read_parameters"]


class ParameterError(ValueError):
    """A ``param_str`` that cannot be understood; the text says what was found and what is known."""


class Parameter:
    """One known parameter of a layer.

    Parameters
    ----------
    name : str
        The name as in the original prototxt.
    kind : {"float", "int", "bool", "string"}
        What one value must be. A whole number is accepted for a float; a bool never counts as a number.
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
        Meaning, one line, shown in error messages.
    """

    def __init__(
        self,
        name,
        kind,
        default=None,
        minimum=None,
        above=None,
        maximum=None,
        choices=None,
        repeated=False,
        required=False,
        doc="",
    ):
        if kind not in _CONVERTERS:
            raise ValueError(f"kind must be one of {', '.join(_CONVERTERS)}, got {kind!r}")
        self.name = name
        self.kind = kind
        self.default = default
        self.minimum = minimum
        self.above = above
        self.maximum = maximum
        self.choices = choices
        self.repeated = repeated
        self.required = required
        self.doc = doc

    def expectation(self):
        """What a value must be, in words: ``float > 0``."""
        text = self.kind
        if self.choices is not None:
            text = "one of " + ", ".join(map(str, self.choices))
        if self.above is not None:
            text += f" > {self.above:g}"
        if self.minimum is not None:
            text += f" >= {self.minimum:g}"
        if self.maximum is not None:
            text += f" <= {self.maximum:g}"
        return "list of " + text if self.repeated else text

    def convert(self, value):
        """The checked value; raises ValueError without a text when `value` does not fit."""
        if not self.repeated:
            return self._convert_one(value)
        return [self._convert_one(item) for item in (value if isinstance(value, (list, tuple)) else [value])]

    def _convert_one(self, value):
        value = _CONVERTERS[self.kind](value)
        if self.choices is not None and value not in self.choices:
            raise ValueError
        if self.above is not None and not value > self.above:
            raise ValueError
        if self.minimum is not None and not value >= self.minimum:
            raise ValueError
        if self.maximum is not None and not value <= self.maximum:
            raise ValueError
        return value

    def __str__(self):
        default = "required" if self.required else f"default {self.default}"
        return f"{self.name} ({self.expectation()}, {default})" + (f": {self.doc}" if self.doc else "")


class Parameters:
    """The values as attributes, and in ``given`` the names that the text really set (some layers branch on it)."""

    def __init__(self, values, given):
        self.__dict__.update(values)
        self.given = frozenset(given)


def read_parameters(text, schema, owner):
    """Read a ``param_str`` against its schema.

    Parameters
    ----------
    text : str
        YAML mapping, JSON object or Python dict literal; may be empty.
    schema : sequence of Parameter
        Everything that is known.
    owner : str
        The layer type, for error messages.

    Returns
    -------
    Parameters
        One attribute a parameter of the schema.

    Raises
    ------
    ParameterError
        Not a mapping, an unknown or repeated name, a wrong type, a value out of range, a required one missing.
        The message lists every known parameter.
    """
    known = {parameter.name: parameter for parameter in schema}

    def fail(problem):
        lines = [f"{owner} param_str: {problem}", "known parameters:" if known else "this layer takes no parameters"]
        raise ParameterError("\n  ".join(lines + [str(parameter) for parameter in schema])) from None

    try:
        mapping = _parse(text)
    except (ValueError, yaml.YAMLError) as error:
        fail(f"cannot be read: {error}; the text was {text!r}")

    for name in mapping:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            fail(f"unknown parameter {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))

    values = {parameter.name: parameter.default for parameter in schema}
    for name, value in mapping.items():
        try:
            values[name] = known[name].convert(value)
        except (ValueError, OverflowError):
            fail(f"{name} must be {known[name].expectation()}, found {value!r}")
    for parameter in schema:
        if parameter.required and parameter.name not in mapping:
            fail(f"{parameter.name} must be given")
    return Parameters(values, mapping)


def _to_float(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _to_int(value):
    number = _to_float(value)
    if number != int(number):
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


def _parse(text):
    if not isinstance(text, str):
        raise ValueError(f"expected text, found {type(text).__name__}")
    # _Loader is a SafeLoader: plain data only
    mapping = _parse_braces(text) if text.lstrip().startswith("{") else yaml.load(text, _Loader)
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise ValueError(f"expected 'name: value' pairs, found {type(mapping).__name__}")
    return mapping


def _parse_braces(text):
    """A dict literal, a JSON object, or a YAML flow mapping; in this order, as YAML reads tuples as nonsense."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if isinstance(tree, ast.Dict):
        try:
            mapping = ast.literal_eval(tree)
        except (ValueError, TypeError):
            mapping = None  # holds names such as JSON's true
        if mapping is not None:
            if len(mapping) != len(tree.keys):
                raise ValueError("a name is given twice")
            return mapping
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        pass
    if "(" in text:
        raise ValueError("neither a Python dict literal nor JSON")
    return yaml.load(text, _Loader)


def _unique(pairs):
    mapping = {}
    for name, value in pairs:
        if name in mapping:
            raise ValueError(f"{name!r} is given twice")
        mapping[name] = value
    return mapping


class _Loader(yaml.SafeLoader):
    """SafeLoader that knows ``1e-8`` and ``None`` and refuses repeated names."""

    def construct_mapping(self, node, deep=False):
        return _unique(
            [
                (self.construct_object(key, deep=True), self.construct_object(value, deep=True))
                for key, value in node.value
            ]
        )


def _construct_map(loader, node):
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^None$"), ["N"])
