"""List the snapshots of a training, newest first, and say which are whole.

A .solverstate is whole if it can be gone on from: it and its weights can be read to their end. With --newest only the
path of the newest whole one is printed, and what was passed over goes to standard error.
"""

import sys

from rloss_caffe.commands import _flags, _snapshots

__all__ = ["EXAMPLE", "add_arguments", "run"]

EXAMPLE = "rloss-caffe snapshots exper/pascal_scribble/model/deeplab_vgg16/train"


def add_arguments(parser):
    parser.add_argument("prefix", metavar="PREFIX", help="the solver's snapshot_prefix: what comes before _iter_N")
    parser.add_argument("--last", type=_flags.positive, metavar="N", help="look at none beyond iteration N")
    parser.add_argument("--newest", action="store_true", help="print the newest whole one only, for scripts")


def run(arguments):
    """0 if there is a whole one, else 1; with --newest 0, or 3 if the weights of iteration --last are there, too."""
    if arguments.newest:
        return _newest(arguments.prefix, arguments.last)
    is_any = False
    for snapshot in _snapshots.snapshots_of(arguments.prefix, arguments.last):
        for problem in snapshot.problems:
            print(f"not whole: {problem}")
        if snapshot.state:
            print(f"whole:     {snapshot.state}")
            is_any = True
    if not is_any:
        print(f"there is no whole snapshot {arguments.prefix}_iter_N.solverstate", file=sys.stderr)
    return 0 if is_any else 1


def _newest(prefix, last):
    found = _snapshots.newest_whole(prefix, last)
    for problem in found.passed_over:
        print(f"passed over: {problem}", file=sys.stderr)
    if found.state:
        print(found.state)
    return 3 if found.is_done else 0
