"""Real caffe objects from prototxts in either dialect."""

from __future__ import annotations

import os
from typing import Any, Sequence

from rloss_caffe.nets.net_file import FolderForCaffe, read_net_file
from rloss_caffe.nets.prototxt import DialectError, check_filled_in, is_net, parse, read_text, to_stock, to_text
from rloss_caffe.nets.solver_conversion import convert_inline_nets, find_net, named_nets
from rloss_caffe.nets.weights import load_weights

__all__ = ["get_solver", "load_net", "make_solver", "read_solver", "snapshot_prefix"]


def load_net(path: str | os.PathLike[str], *arguments: Any, **keywords: Any) -> Any:
    """A caffe.Net of a prototxt in either dialect; it is public as ``rloss_caffe.Net``.

    Parameters
    ----------
    path : str or path
    arguments, keywords
        Those of caffe.Net: phase, weights, level, stages.

    Returns
    -------
    caffe.Net

    Raises
    ------
    DialectError
        Caffe could not read the net, or does not know a layer's type, in which cases it would end the process.
    ValueError
        So it would here: the weights cannot be read, or do not fit.
    """
    import caffe

    path = os.fspath(path)
    given = [value for value in (*arguments, keywords.pop("weights", None)) if isinstance(value, (str, os.PathLike))]
    _check_files(given)
    others = [value for value in arguments if not isinstance(value, (str, os.PathLike))]
    net = read_net_file(path, check_types=True)
    with FolderForCaffe() as folder:
        result = caffe.Net(folder.net_path(net), *others, **keywords)
    for weights in given:
        load_weights(result, os.fspath(weights))
    return result


def get_solver(path: str | os.PathLike[str], level: int = 0, stages: Sequence[str] = ()) -> Any:
    """A caffe.Solver of a solver prototxt whose nets may be in either dialect.

    Parameters
    ----------
    path : str or path
    level : int
    stages : sequence of str
        Added to the solver's train_state.

    Raises
    ------
    DialectError, ValueError
        As for `load_net`; or a net is missing.
    """
    path = os.fspath(path)
    parameters = read_solver(path)
    parameters.snapshot_prefix = snapshot_prefix(parameters, path)
    return make_solver(parameters, path, level, stages)


def read_solver(path):
    """A solver, as a stock SolverParameter; its nets are not looked at, but its placeholders must be filled in."""
    path = os.fspath(path)
    text = read_text(path)
    if is_net(text):
        raise DialectError(f"{path}: expected a solver, found a net")
    check_filled_in(text, path)
    prototxt = parse(text, "SolverParameter", path)
    unknown = convert_inline_nets(prototxt, lambda _: None).unknown_types
    if unknown:
        raise DialectError(unknown[0])
    return to_stock(prototxt.message, "SolverParameter")


def snapshot_prefix(parameters, path):
    """Where the snapshots of a solver file go: PREFIX_iter_N.caffemodel; Caffe's own rules.

    Parameters
    ----------
    parameters : SolverParameter
    path : str
        The solver file: without a prefix its own name is one, and so it is in a folder that is named as the prefix.
    """
    prefix, stem = parameters.snapshot_prefix, os.path.splitext(path)[0]
    if not prefix:
        return stem
    return os.path.join(prefix, os.path.basename(stem)) if os.path.isdir(prefix) else prefix


def make_solver(parameters, path, level=0, stages=()):
    """A caffe.Solver of what `read_solver` has read from the file `path`; `parameters` stays as it is."""
    import caffe

    solver = type(parameters)()
    solver.CopyFrom(parameters)
    if level:
        solver.train_state.level = level
    solver.train_state.stage.extend(stages)
    weights = _take_weights(solver)
    nets = {}
    with FolderForCaffe() as folder:
        for named in named_nets(solver):
            found = find_net(named.path, path)
            if found not in nets:
                nets[found] = folder.net_path(read_net_file(found, check_types=True))
            named.rename(solver, nets[found])
        result = caffe.get_solver(folder.put(path, to_text(solver)))
    for net in [result.net, *result.test_nets]:
        for name in weights:
            load_weights(net, name)
    return result


def _take_weights(solver):
    """The weights that a solver names, taken out of it: `load_weights` does not end the process."""
    if "weights" not in solver.DESCRIPTOR.fields_by_name:  # older than Caffe 1.0's last changes
        return []
    weights = [path.strip() for names in solver.weights for path in names.split(",")]
    _check_files(weights)
    solver.ClearField("weights")
    return weights


def _check_files(paths):
    for path in paths:
        if not os.path.isfile(path):
            raise DialectError(f"no such file: {path}")
