#!/usr/bin/env python
"""Write the layers' parameters into the pages that list them, from their declarations.

Usage: python tools/write_parameters.py [--check] [FILE ...]

In a prototxt the lines from ``# Parameters`` to ``param_str`` are written; in Markdown what stands between
``<!-- parameters: DenseCRFLoss -->`` and ``<!-- end -->``. Without a FILE: prototxt/*.prototxt and the root's *.md.
With --check nothing is written, and the status is 1 if something would be.
"""

import argparse
import re
import sys
from pathlib import Path

from rloss_caffe.numerics.parameters import as_comment, as_table

ROOT = Path(__file__).resolve().parents[1]
COMMENT = re.compile(r'(layer: "(\w+)"\n(?:(?! *param_str:| *# Parameters\b).*\n)*?)( *)# Parameters\b.*\n(?: *#.*\n)*')
TABLE = re.compile(r"(<!-- parameters: (\w+) -->\n)(?:.*\n)*?(<!-- end -->)")


def parameters_of(layer):
    import rloss_caffe.layers

    return getattr(rloss_caffe.layers, layer).PARAMETERS


def written(path):
    """The file's text with its lists of parameters as they are declared."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return TABLE.sub(lambda found: f"{found[1]}{as_table(parameters_of(found[2]))}\n{found[3]}", text)

    def comment(found):
        return f"{found[1]}{found[3]}# Parameters\n{as_comment(parameters_of(found[2]), found[3])}\n"

    return COMMENT.sub(comment, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="write nothing, tell by the status")
    arguments = parser.parse_args()
    files = arguments.files or [*sorted((ROOT / "prototxt").glob("*.prototxt")), *sorted(ROOT.glob("*.md"))]
    old = [path for path in files if written(path) != path.read_text(encoding="utf-8")]
    for path in old:
        if arguments.check:
            print(f"{path} differs from the declarations: run python tools/write_parameters.py")
        else:
            path.write_text(written(path), encoding="utf-8")
            print(f"wrote {path}")
    return 1 if arguments.check and old else 0


if __name__ == "__main__":
    sys.exit(main())
