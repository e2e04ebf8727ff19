# PYTHON_ARGCOMPLETE_OK
"""The ``rloss-caffe`` command: one module a subcommand, loaded only when it is called.

A file without a leading underscore is a subcommand: it has ``EXAMPLE`` (one command line), a docstring (its help,
which is for users), ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit status. Files with one
are what several share. A dash in a subcommand's name is an underscore in its file's.
"""

import argparse
import contextlib
import importlib
import os
import sys
import warnings

from rloss_caffe.commands import _signals
from rloss_caffe.version import __version__

__all__ = ["main"]

# heading: {name: help}; the module has the name, with underscores for dashes
COMMANDS = {
    "training": {
        "train": "run a solver, with the caffe program's flags",
        "test": "score a net, with the caffe program's flags, and class by class",
        "time": "time a net's layers, with the caffe program's flags",
        "snapshots": "list the snapshots of a training that are whole",
        "convert": "turn a prototxt of DeepLab's fork into one for stock Caffe",
    },
    "looking": {
        "gradient": "draw the DenseCRF loss's gradient for each class of an image",
        "show": "show predictions beside image, scribble and ground truth, the worst first",
        "plot": "draw the curves of training logs, and write them as a table",
    },
    "data": {
        "draw": "draw scribbles on your own photographs, and see what each loss makes of them",
        "propagate": "make full label maps of scribbles, by a loss, without training",
        "fetch": "fetch PASCAL VOC 2012, masks and scribbles",
        "scribbles": "turn ScribbleSup's XML files into label maps",
        "lists": "make the lists of a VOC tree, and check every file they name",
        "check": "check a data set, count its classes, draw samples of it",
    },
    "set-up": {
        "doctor": "tell what will and will not work here, and how to mend it",
        "device_query": "tell which GPUs Caffe can use",
        "provide-bilateralfilter": "let PyTorch projects that import bilateralfilter run unchanged",
    },
}


def main(argv=None):
    """Entry point of ``rloss-caffe`` and ``python -m rloss_caffe``; returns the exit status."""
    with _signals.terminated_as_interrupted():
        try:
            status = _run(sys.argv[1:] if argv is None else list(argv))
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # whoever read the output, as head does, has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except _signals.Terminated:
            print("rloss-caffe: terminated", file=sys.stderr)
            return 143
        except KeyboardInterrupt:
            print("rloss-caffe: interrupted", file=sys.stderr)
            return 130


def _run(argv):
    if "_ARGCOMPLETE" in os.environ:  # the shell asks how the line so far may go on
        import argcomplete

        argcomplete.autocomplete(_parser(os.environ.get("COMP_LINE", "").split()[1:]))
    parser = _parser(argv)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    arguments = parser.parse_args(argv)
    try:
        with _warnings_in_a_line(arguments.command):
            return arguments.run(arguments)
    except BrokenPipeError:
        raise
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        print(f"rloss-caffe {arguments.command}: {error}", file=sys.stderr)
        return 1


def _parser(argv):
    """The parser of a command line: of the subcommands only the one that is called is loaded."""
    parser = _Parser(
        prog="rloss-caffe",
        usage="rloss-caffe COMMAND ...",
        description="Regularised losses for stock Caffe.",
        epilog=_overview(),
    )
    parser.add_argument("--version", action="version", version=f"rloss-caffe {__version__}")
    subparsers = parser.add_subparsers(
        prog="rloss-caffe", dest="command", metavar="COMMAND", required=True, help="one of those below"
    )
    for name in (name for commands in COMMANDS.values() for name in commands):
        if argv[:1] != [name]:
            subparsers.add_parser(name)
            continue
        command = importlib.import_module(f"rloss_caffe.commands.{name.replace('-', '_')}")
        subparser = subparsers.add_parser(name, description=command.__doc__)
        subparser.example = command.EXAMPLE
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser whose help begins with an example, and keeps the lines of its description."""

    example = ""

    def __init__(self, **options):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def format_help(self):
        return (f"example: {self.example}\n\n" if self.example else "") + super().format_help()


@contextlib.contextmanager
def _warnings_in_a_line(command):
    """For people a warning is a line, without the file and the line of the program."""

    def show(message, *_, **__):
        print(f"rloss-caffe {command}: warning: {message}", file=sys.stderr)

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def _overview():
    """The subcommands under their headings, with a line each."""
    lines = []
    for heading, commands in COMMANDS.items():
        lines += [f"{heading}:", *(f"  {name:13} {text}" for name, text in commands.items()), ""]
    return "\n".join([*lines, "'rloss-caffe COMMAND --help' tells more and begins with an example."])
