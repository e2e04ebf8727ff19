"""Make nets and solvers from prototxts."""

import os
import tempfile

from google.protobuf import text_format

__all__ = ["load_net", "load_solver", "read_solver"]


def load_net(path, phase, level=0, stage=""):
    """A caffe.Net; `stage` is a comma list."""
    import caffe

    if not os.path.isfile(path):
        raise ValueError(f"no such file: {path}")
    return caffe.Net(path, phase, level=level, stages=[name for name in stage.split(",") if name])


def load_solver(path, level=0, stage=""):
    """A caffe.Solver; level and stage are added to those of its train_state."""
    import caffe

    if not level and not stage:
        return caffe.get_solver(path)
    parameters = read_solver(path)
    parameters.train_state.level = level
    parameters.train_state.stage.extend(name for name in stage.split(",") if name)
    if not parameters.snapshot_prefix:
        parameters.snapshot_prefix = os.path.splitext(path)[0]
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(parameters))
        file.flush()
        return caffe.get_solver(file.name)


def read_solver(path):
    """The solver's settings, a SolverParameter."""
    from caffe.proto import caffe_pb2

    try:
        with open(path, encoding="utf-8") as file:
            return text_format.Parse(file.read(), caffe_pb2.SolverParameter())
    except OSError as error:
        raise ValueError(f"cannot read the solver {path}: {error.strerror}") from None
    except text_format.ParseError as error:
        raise ValueError(f"{path}: {error}") from None
