"""Prototxts of DeepLab's fork of Caffe: read with the fork's schema, turned into stock Caffe's with Python layers."""

from rloss_caffe.nets.convert import DialectError, convert_file, convert_text, read_net, read_solver
from rloss_caffe.nets.loading import Net, get_solver, make_solver, snapshot_prefix
from rloss_caffe.nets.weights import check_solverstate, load_weights

__all__ = [
    "DialectError",
    "Net",
    "check_solverstate",
    "convert_file",
    "convert_text",
    "get_solver",
    "load_weights",
    "make_solver",
    "read_net",
    "read_solver",
    "snapshot_prefix",
]
