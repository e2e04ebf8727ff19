"""The losses on a command line: which one, its parameters as options, and its settings."""

from rloss_caffe.losses import LOSSES
from rloss_caffe.numerics.parameters import parameters_of
from rloss_caffe.pictures.gradient_figures import Settings

__all__ = ["add_loss_options", "bandwidths_of", "check_options", "given_values", "settings_of"]

# Where there is no layer that says other ones: what the experiments have, and published weights.
EXPERIMENTS = {"bi_xy_std": 100.0, "bi_rgb_std": 15.0}
DENSE_PART = 1e-7  # kernel cut's densecrf_weight at which both of its parts push about equally, without normalization
WEIGHTS = {"densecrf": 1e-8, "local_potts": 0.1, "size_constraint": 1e-2}
MOST_VALUES = 6  # of a parameter: more cannot be read on one sheet
# Parameters and values with which other parameters have no effect.
WITHOUT_EFFECT = {
    ("kernel", "pairs"): ("bi_xy_std", "bi_rgb_std"),
    ("kernel", "dense"): ("xy_std", "rgb_std", "radius"),
    ("contrast", "image"): ("rgb_std",),
    ("space", "inverse_distance"): ("xy_std",),
}


def _all_parameters():
    """{name: its declarations, one a loss that has it}; the first loss's comes first."""
    found = {}
    for loss, function in LOSSES.items():
        for parameter in parameters_of(function):
            found.setdefault(parameter.name, {})[loss] = parameter
    return found


def _option(name, taken):
    return f"--loss_{name}" if f"--{name}" in taken else f"--{name}"


def add_loss_options(parser):
    """An option for each parameter of each loss; --loss_NAME where the command has an option --NAME of its own."""
    taken = set(parser._option_string_actions)
    group = parser.add_argument_group(
        "parameters of the losses", "numbers may be lists, A,B,C, where --sweep tries them; see rloss_caffe/API.md"
    )
    for name, declared in _all_parameters().items():
        first = next(iter(declared.values()))
        option, whose = _option(name, taken), "" if len(declared) == len(LOSSES) else f" ({', '.join(declared)})"
        meaning = first.doc.replace("%", "%%") + whose
        if first.kind == "bool":
            group.add_argument(option, dest=f"loss_{name}", action="store_const", const="true", help=meaning)
            group.add_argument(
                option.replace("--", "--no-"), dest=f"loss_{name}", action="store_const", const="false",
                help=f"the opposite of {option}",
            )  # fmt: skip
        else:
            kind = {"float": "X", "int": "N", "string": "WORD"}[first.kind]
            group.add_argument(option, dest=f"loss_{name}", metavar=kind, help=meaning)


def check_options(arguments, losses):
    """Every parameter that is given belongs to one of the losses."""
    known = {parameter.name for loss in losses for parameter in parameters_of(LOSSES[loss])}
    for name in _all_parameters():
        if getattr(arguments, f"loss_{name}") is not None and name not in known:
            raise ValueError(f"{name} is no parameter of {' or '.join(losses)}, which has {', '.join(sorted(known))}")


def given_values(arguments, loss):
    """{name: checked values} of the loss's parameters that are given: a list of one, or of several for a sweep."""
    found = {}
    for parameter in parameters_of(LOSSES[loss]):
        text = getattr(arguments, f"loss_{parameter.name}")
        if text is not None:
            found[parameter.name] = _read(parameter, text)
    return found


def _read(parameter, text):
    try:
        if parameter.kind == "bool":
            return [text == "true"]
        if parameter.kind == "string":
            return [parameter.checked(text)]
        number = int if parameter.kind == "int" else float
        values = [number(word) for word in text.split(",")]
        if parameter.repeated:
            return [parameter.checked(values)]
        return sorted({parameter.checked(value) for value in values})
    except ValueError:
        raise ValueError(f"{parameter.name} must be {parameter.expectation()}, found {text}") from None


def settings_of(loss, arguments, source, weight=None):
    """A loss's settings: those of the source's layer, as far as it has them, and what the options replace.

    A layer of another loss gives the parameters that both losses share.
    """
    function = LOSSES[loss]
    values = {each.name: EXPERIMENTS.get(each.name, each.default) for each in parameters_of(function)}
    if source.loss:
        declared = set() if source.loss == loss else set(map(repr, parameters_of(LOSSES[source.loss])))
        for each in parameters_of(function):
            if source.loss == loss or repr(each) in declared:
                values[each.name] = source.parameters[each.name]
    for name, given in given_values(arguments, loss).items():
        values[name] = given[0]
    told = source.loss == loss or arguments.loss_densecrf_weight is not None
    if "densecrf_weight" in values and not told and values["normalization"] == "BATCH_SIZE":
        values["densecrf_weight"] = DENSE_PART
    if weight is None:
        weight = source.loss_weight if source.loss == loss else WEIGHTS.get(loss, 1.0)
    return Settings(loss, values, weight)


def bandwidths_of(settings, arguments, swept):
    """What a sweep tries: {parameter: values} of two parameters, downwards and to the right, or of one.

    Those with several values given, then those of `swept` that the loss has and that have an effect.

    Parameters
    ----------
    settings : Settings
    arguments : Namespace
    swept : dict
        Bandwidths and the values to try where none are given, in the order in which they are taken.
    """
    given, parameters = given_values(arguments, settings.loss), settings.parameters
    axes = [name for name, values in given.items() if len(values) > 1]
    if len(axes) > 2:
        raise ValueError(f"--sweep: two parameters can be tried at once, found {', '.join(axes)}")
    idle = [names for (choice, value), names in WITHOUT_EFFECT.items() if parameters.get(choice) == value]
    idle = set().union(*idle)
    axes += [name for name in swept if name in parameters and name not in idle and name not in axes]
    axes = sorted(axes[:2], key=list(parameters).index)
    if not axes:
        name = _number(settings.loss)
        raise ValueError(f"--sweep: {settings.loss} has no bandwidth; give a parameter several values, as --{name} 1,2")
    result = {name: given.get(name, swept.get(name)) for name in axes}
    for name, values in result.items():
        if len(values) > MOST_VALUES:
            raise ValueError(f"--sweep: at most {MOST_VALUES} values of {name} can be read on one sheet")
    return result


def _number(loss):
    """The name of one of its parameters that is a number."""
    kinds = [each for each in parameters_of(LOSSES[loss]) if each.kind == "float" and not each.repeated]
    return kinds[0].name if kinds else parameters_of(LOSSES[loss])[0].name
