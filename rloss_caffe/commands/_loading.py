"""Make nets and solvers from prototxts in either dialect, with the caffe program's flags."""

from rloss_caffe import nets as dialect

__all__ = ["load_net", "load_solver", "read_solver"]

read_solver = dialect.read_solver


def load_net(path, phase, level=0, stage=""):
    """A caffe.Net; `stage` is a comma list."""
    return dialect.Net(path, phase, level=level, stages=_names(stage))


def load_solver(path, level=0, stage=""):
    """A caffe.Solver; level and stage are added to those of its train_state."""
    return dialect.get_solver(path, level, _names(stage))


def _names(stage):
    return [name for name in stage.split(",") if name]
