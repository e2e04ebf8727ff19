"""The one reader of every layer's ``param_str``: YAML, JSON or a Python dict literal, checked against a schema.

Nothing is ever evaluated. Plain YAML has traps that this reader closes: ``1e-8`` is a number (YAML 1.1 wants
``1.0e-8``), ``None`` is no string, a tuple is a list, an empty text is an empty mapping, a repeated key is an error;
``010`` is no octal 8, ``1:00`` no 60 and ``2012-11-05`` no date: they are text.

The text may be anything: its length and depth are bounded before a parser sees it, so that none of them can run out
of stack, memory or time, and messages quote only its beginning.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
import reprlib
from typing import Any

import yaml

from rloss_caffe.numerics.parameters import Parameter, ParameterError

__all__ = ["Parameter", "ParameterError", "Parameters", "read_parameters"]

MAX_LENGTH = 10_000  # characters; PyYAML reads about 50 a millisecond at worst
MAX_DEPTH = 20  # lists in lists; a parameter is at most a list in a mapping


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
        YAML mapping, JSON object or Python dict literal of at most 10,000 characters; may be empty.
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
        reason = _shortened(str(error).replace('in "<unicode string>", ', "at "))
        fail(f"cannot be read: {reason}; the text was {_quoted(text)}")

    for name in mapping:
        if name not in known:
            close = difflib.get_close_matches(_shortened(str(name)), known, n=1) if isinstance(name, str) else []
            fail(f"unknown parameter {_quoted(name)}" + (f", did you mean {close[0]!r}?" if close else ""))

    values = {each.name: list(each.default or []) if each.repeated else each.default for each in schema}
    for name, value in mapping.items():
        try:
            values[name] = known[name].convert(value)
        except ValueError as error:
            reason = f", {error}" if str(error) else ""
            fail(f"{name} must be {known[name].expectation()}, found {_quoted(value)}{reason}")
    for parameter in schema:
        if parameter.required and parameter.name not in mapping:
            fail(f"{parameter.name} must be given")
    return Parameters(values, mapping)


def _parse(text):
    if not isinstance(text, str):
        raise ValueError(f"expected text, found {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"it has {len(text)} characters, at most {MAX_LENGTH} are allowed")
    if not text.strip():
        return {}
    mapping = _parse_braces(text) if text.lstrip().startswith("{") else _parse_yaml(text)
    if mapping is None:
        return {}
    if not isinstance(mapping, dict):
        raise ValueError(f"expected 'name: value' pairs, found {type(mapping).__name__}")
    return mapping


def _parse_braces(text):
    """A dict literal, a JSON object, or a YAML flow mapping; in this order, as YAML reads tuples as nonsense."""
    mapping = _parse_literal(text)
    if mapping is not None:
        return mapping
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:
        pass
    except RecursionError:
        raise _too_deep() from None
    if "(" in text:
        raise ValueError("neither a Python dict literal nor JSON")
    return _parse_yaml(text)


def _too_deep():
    return ValueError(f"more than {MAX_DEPTH} lists or mappings inside one another")


# What a dict literal is made of. Python's own parser sees nothing else: a long sum ends in a crash of some versions.
_TOKEN = re.compile(
    r"""\s+|[\[\](){},:]|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|"""
    r"(?:[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)|True|False|None)(?![\w.])"
)


def _is_literal(text):
    # Token by token: one expression for all would try every other way to split a text that does not fit.
    position = depth = 0
    before = ""
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or (token[0][0] in "+-" and before and before not in "[({,:"):  # 1 +1 is a sum
            return False
        before = token[0].strip() or before
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if depth > MAX_DEPTH:
            raise _too_deep()
        position = token.end()
    return True


def _parse_literal(text):
    """A Python dict literal of strings, numbers, constants, lists and tuples; None if `text` is something else."""
    if not _is_literal(text):
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        mapping = ast.literal_eval(tree)
    except (SyntaxError, ValueError, TypeError):
        return None
    if not isinstance(tree, ast.Dict):
        return None
    if len(mapping) != len(tree.keys):
        raise ValueError("a name is given twice")
    return mapping


def _unique(pairs):
    mapping = {}
    for name, value in pairs:
        if isinstance(name, (list, dict)):
            raise ValueError(f"a name must be text, found {_quoted(name)}")
        if name in mapping:
            raise ValueError(f"{_quoted(name)} is given twice")
        mapping[name] = value
    return mapping


def _parse_yaml(text):
    return yaml.load(text, _Loader)  # a SafeLoader, with still fewer types


class _Loader(yaml.SafeLoader):
    """Text, numbers, bools, null, lists and mappings; nothing deep, no repeated names."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors: dict[str, Any] = {}
    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _too_deep()
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _resolved(kind, pattern, first, convert):
    """Plain scalars of this pattern are of this kind, and whoever writes its tag must write the pattern, too."""
    tag, pattern = f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z")

    def construct(loader, node):
        text = loader.construct_scalar(node)
        if not pattern.match(text):
            raise ValueError(f"{_quoted(text)} is no {kind}")
        return convert(text)

    _Loader.add_implicit_resolver(tag, pattern, list(first))
    _Loader.add_constructor(tag, construct)


def _yaml_float(text):
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_TRUE, _FALSE = ("yes", "true", "on"), ("no", "false", "off")
_BOOLS = "|".join(form for word in _TRUE + _FALSE for form in (word, word.capitalize(), word.upper()))
_resolved("null", "~|null|Null|NULL|None|", ["~", "n", "N", ""], lambda text: None)
_resolved("bool", _BOOLS, "yYnNtTfFoO", lambda text: text.lower() in _TRUE)
_resolved("int", r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)", "-+0123456789", lambda text: int(text, 0))
_resolved(
    "float",
    r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
    "-+.0123456789",
    _yaml_float,
)


def _construct_list(loader, node):
    return [loader.construct_object(item, deep=True) for item in _items(node, yaml.SequenceNode)]


def _construct_map(loader, node):
    pairs = _items(node, yaml.MappingNode)
    return _unique(
        [(loader.construct_object(key, deep=True), loader.construct_object(value, deep=True)) for key, value in pairs]
    )


def _items(node, kind):
    if not isinstance(node, kind):
        raise ValueError(f"a {node.id} cannot be tagged {_quoted(node.tag)}")
    return node.value


_Loader.add_constructor("tag:yaml.org,2002:str", lambda loader, node: loader.construct_scalar(node))
_Loader.add_constructor("tag:yaml.org,2002:seq", _construct_list)
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor(None, yaml.constructor.SafeConstructor.construct_undefined)


class _Quotes(reprlib.Repr):
    """A short repr of anything, in short time: of huge numbers, long texts, lists that hold themselves."""

    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 2, 4, 4, 4, 4
        self.maxstring = self.maxother = 120

    def repr_int(self, number, level):
        return repr(number) if number.bit_length() <= 256 else f"a number of {number.bit_length()} bits"


def _quoted(value):
    return _Quotes().repr(value)


def _shortened(text, limit=300):
    return text if len(text) <= limit else text[:limit] + " ..."
