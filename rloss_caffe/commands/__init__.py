"""The ``rloss-caffe`` command: one module a subcommand, loaded only when it is called."""

import argparse
import importlib
import sys

from rloss_caffe.version import __version__

__all__ = ["main"]

# name: (module, help). A module has add_arguments(parser) and run(arguments) -> exit status.
COMMANDS = {
    "convert": ("rloss_caffe.commands.convert", "turn a prototxt of DeepLab's fork into one for stock Caffe"),
    "train": ("rloss_caffe.commands.train", "run a solver, with the caffe program's flags"),
    "test": ("rloss_caffe.commands.test", "score a net, with the caffe program's flags, and class by class"),
    "time": ("rloss_caffe.commands.time", "time a net's layers, with the caffe program's flags"),
    "device_query": ("rloss_caffe.commands.device_query", "tell which GPUs Caffe can use"),
    "doctor": ("rloss_caffe.commands.doctor", "tell what will and will not work here, and how to mend it"),
}


def main(argv=None):
    """Entry point of ``rloss-caffe`` and ``python -m rloss_caffe``; returns the exit status."""
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except KeyboardInterrupt:
        print("rloss-caffe: interrupted", file=sys.stderr)
        return 130


def _run(argv):
    parser = argparse.ArgumentParser(prog="rloss-caffe", description="Regularised losses for stock Caffe.")
    parser.add_argument("--version", action="version", version=f"rloss-caffe {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if argv[:1] == [name]:
            command = importlib.import_module(module)
            command.add_arguments(subparser)
            subparser.set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        print(f"rloss-caffe {arguments.command}: {error}", file=sys.stderr)
        return 1
