"""What the study's scripts share on the command line: options, and errors in one line."""

import sys
from pathlib import Path

__all__ = ["add_bandwidths", "add_every", "run"]


def run(main, interrupted="interrupted"):
    """Call a script's `main`; what goes wrong becomes one line and status 1, an interrupt that word and 130."""
    try:
        main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).stem}: {interrupted}", file=sys.stderr)
        sys.exit(130)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def add_bandwidths(parser):
    """--kernel XY,RGB, which may be given several times."""
    parser.add_argument(
        "--kernel",
        action="append",
        type=_bandwidths,
        metavar="XY,RGB",
        help="bi_xy_std and bi_rgb_std, such as 30,8; may be given several times; default: a list of pairs",
    )


def add_every(parser):
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th image; default: all")


def _bandwidths(text):
    xy_std, rgb_std = (float(word) for word in text.split(","))
    if not (xy_std > 0 and rgb_std > 0):
        raise ValueError
    return xy_std, rgb_std


_bandwidths.__name__ = "pair of bandwidths"  # argparse: "invalid pair of bandwidths value: '3'"
