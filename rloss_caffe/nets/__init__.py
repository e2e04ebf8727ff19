"""Nets and solvers of Caffe, and weights: read in either dialect, converted, checked, loaded.

DeepLab's fork of Caffe has layers of its own; its prototxts are read with the fork's schema (`schema`, `prototxt`) and
turned into stock Caffe's with Python layers (`fork_layers`, `old_layers`, `net_conversion`, `solver_conversion`,
`convert`). `loading` makes real nets and solvers, `weights` looks at what they are loaded with. `input_net` puts an
input in place of a data layer: for label maps (`segmenter`), and for what a loss sees (`loss_net`).
"""

from rloss_caffe.nets.convert import convert_file, convert_text, read_net
from rloss_caffe.nets.loading import get_solver, load_net, make_solver, read_solver, snapshot_prefix
from rloss_caffe.nets.net_file import COPY_PREFIX
from rloss_caffe.nets.prototxt import DialectError
from rloss_caffe.nets.snapshots import check_snapshot, check_solverstate, is_whole
from rloss_caffe.nets.weights import load_weights

Net = load_net  # the public name, that of Caffe's own

__all__ = [
    "COPY_PREFIX",
    "DialectError",
    "Net",
    "check_snapshot",
    "check_solverstate",
    "convert_file",
    "convert_text",
    "get_solver",
    "is_whole",
    "load_net",
    "load_weights",
    "make_solver",
    "read_net",
    "read_solver",
    "snapshot_prefix",
]
