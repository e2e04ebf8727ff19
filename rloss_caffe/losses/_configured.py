"""A loss as an object of a framework: its weight, and the options of a function of `rloss_caffe.losses`."""

from __future__ import annotations

import inspect
from typing import Any, Mapping

from rloss_caffe.losses import LOSSES
from rloss_caffe.numerics.arrays import finite_number
from rloss_caffe.numerics.parameters import Parameter, fill, parameters_of

__all__ = ["ConfiguredLoss", "attribute_of", "checked_options"]

ATTRIBUTES = {"lambda": "lambda_"}  # Python has the word for itself


class ConfiguredLoss:
    """What the losses of all frameworks share.

    Options are attributes: what is set later is checked, and used from then on, so that weights and barriers can follow
    a schedule. A subclass sets ``LOSS``, the loss's name, and may set ``NAMES``, of attributes that are not called as
    their parameters are. Its docstring gets the parameters in the place of a line that says so.

    Parameters
    ----------
    weight : float
        What value and gradient are multiplied by.
    **options
        The function's parameters, and none but those.

    Raises
    ------
    ValueError
        A value does not fit; the text names the option.
    """

    LOSS = ""
    NAMES: dict[str, str] = ATTRIBUTES
    _declared: dict[str, Parameter] = {}  # by attribute
    __signature__: inspect.Signature
    weight: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not cls.LOSS:
            return
        cls._declared = {cls.NAMES.get(each.name, each.name): each for each in parameters_of(LOSSES[cls.LOSS])}
        documented = inspect.signature(cls.__init__).parameters
        cls.__doc__ = fill(cls.__doc__, [each for name, each in cls._declared.items() if name not in documented])
        if "__init__" not in vars(cls):
            keyword = inspect.Parameter.KEYWORD_ONLY
            cls.__signature__ = inspect.Signature(
                [
                    inspect.Parameter("weight", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=1.0),
                    *(inspect.Parameter(name, keyword, default=each.default) for name, each in cls._declared.items()),
                ]
            )

    def __init__(self, weight: float = 1.0, **options: Any) -> None:
        super().__init__()
        self._options = {each.name: each.default for each in self._declared.values()}
        self.weight = weight
        given = _by_attribute(type(self).__name__, self._declared, self.NAMES, options, "weight")
        for name, parameter in self._declared.items():
            setattr(self, name, given.get(name, parameter.default))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            finite_number(name, value)
            value = float(value)
        elif name in self._declared:
            parameter = self._declared[name]
            value = _checked(name, parameter, value)
            self._options[parameter.name] = value
        super().__setattr__(name, value)

    @property
    def options(self) -> dict[str, Any]:
        """The function's parameters as they are now, under the function's names."""
        return self._options

    def described(self) -> str:
        """The weight, what the constructor asks for, and the options that differ from their defaults."""
        always = inspect.signature(type(self).__init__).parameters
        words = [f"weight={self.weight:g}"]
        for name, parameter in self._declared.items():
            value = self._options[parameter.name]
            if name in always or value != _plain(parameter.default):
                words.append(f"{name}={value!r}")
        return ", ".join(words)


def attribute_of(parameter: Parameter) -> str:
    """What a parameter is called where it is an argument or an attribute: ``lambda_`` for ``lambda``."""
    return ATTRIBUTES.get(parameter.name, parameter.name)


def checked_options(caller: str, loss: str, options: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """The parameters of a loss's function, checked, with defaults where none are given.

    Parameters
    ----------
    caller : str
        Who was given them, for the message.
    loss : str
        A key of `LOSSES`.
    options : mapping
    *others : str
        What else the caller takes, for the message.

    Raises
    ------
    TypeError
        The function has no such parameter.
    ValueError
        A value does not fit.
    """
    declared = {attribute_of(each): each for each in parameters_of(LOSSES[loss])}
    given = _by_attribute(caller, declared, ATTRIBUTES, options, *others)
    return {each.name: _checked(name, each, given.get(name, each.default)) for name, each in declared.items()}


def _by_attribute(caller, declared, names, options, *others):
    given = {names.get(name, name): value for name, value in options.items()}
    for name in given:
        if name not in declared:
            known = ", ".join([*others, *declared])
            raise TypeError(f"{caller} got an unexpected argument {name!r}; it takes {known}")
    return given


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


def _checked(name, parameter, value):
    """An option's value, in Python's own types; the text of a ValueError calls it as the caller does."""
    if parameter.repeated and isinstance(value, (tuple, list)):
        value = list(value)
    if value is None and (parameter.default is None or parameter.repeated):
        return _plain(parameter.default)
    try:
        return _plain(parameter.checked(value))
    except ValueError as error:
        raise ValueError(str(error).replace(f"{parameter.name} must", f"{name} must", 1)) from None
