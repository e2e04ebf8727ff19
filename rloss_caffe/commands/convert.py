"""Turn a net or solver for DeepLab's fork of Caffe into one for stock Caffe, comments and all."""

import sys

from rloss_caffe.nets.convert import convert_file, to_stderr

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe convert fork.prototxt stock.prototxt"


def add_arguments(parser):
    parser.add_argument("input", metavar="IN.prototxt", help="a net or a solver, whose nets are converted with it")
    parser.add_argument("output", metavar="OUT.prototxt", nargs="?", default="-", help="default: standard output")


def run(arguments):
    """Convert; what is left out and which further files are written is told on standard error."""
    target = None if arguments.output == "-" else arguments.output
    text = convert_file(arguments.input, target, to_stderr)
    if target is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    return 0
