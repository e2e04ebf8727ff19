#!/usr/bin/env python
"""Write the pages that are made from declarations and docstrings; --check only says whether they are up to date.

    prototxt/*.prototxt   the lines from "# Parameters" to param_str
    prototxt/README.md    every layer: blobs, parameters, defaults, meaning
    rloss_caffe/API.md    the public Python functions and classes

Needs Caffe, as the layers are loaded.
"""

import argparse
import inspect
import re
import sys
from pathlib import Path

import rloss_caffe
from rloss_caffe import layers
from rloss_caffe.numerics.parameters import as_comment, as_table

ROOT = Path(__file__).resolve().parents[1]
PARAMETERS = re.compile(
    r'(layer: "(\w+)"\n(?:(?! *param_str:| *# Parameters\b).*\n)*?)( *)# Parameters\b.*\n(?: *#.*\n)*'
)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page is out of date")
    check = parser.parse_args(arguments).check
    made = pages()
    outdated = [path for path, text in made.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in outdated:
        if not check:
            path.write_text(made[path], encoding="utf-8")
        print(f"{'out of date' if check else 'wrote'}: {path.relative_to(ROOT)}")
    return 1 if check and outdated else 0


def pages():
    """Path: text of every page."""
    return {
        **{path: with_comments(path.read_text("utf-8")) for path in sorted((ROOT / "prototxt").glob("*.prototxt"))},
        ROOT / "prototxt" / "README.md": layer_page(),
        ROOT / "rloss_caffe" / "API.md": api_page(),
    }


def with_comments(text):
    """A prototxt with its comments on parameters as they are declared."""

    def comment(found):
        parameters = getattr(layers, found[2]).PARAMETERS
        return f"{found[1]}{found[3]}# Parameters\n{as_comment(parameters, found[3])}\n"

    return PARAMETERS.sub(comment, text)


def layer_classes():
    return [getattr(layers, name) for name in layers.__all__]


def layer_page():
    lines = [
        "# The layers",
        "",
        "This page is made by `python tools/make_pages.py` from the layers themselves.",
        "The heading of each links to a definition, ready to paste, with the fork's dialect where it has the layer.",
        "Parameters are written into `param_str` as YAML, JSON or a Python dict literal.",
    ]
    for layer in layer_classes():
        file = layer.__module__.rsplit(".", 1)[-1]
        lines += [
            "",
            f"## [{layer.__name__}]({file}.prototxt)",
            "",
            first_paragraph(layer),
            "",
            f"Bottoms: {blobs(layer.BOTTOMS)}. Tops: {blobs(layer.TOPS)}.",
            "",
            as_table(layer.PARAMETERS),
        ]
    return "\n".join(lines) + "\n"


def blobs(names):
    return ", ".join(f"[{name[:-1]}]" if name.endswith("?") else name for name in names) or "none"


def first_paragraph(layer):
    return " ".join(inspect.getdoc(layer).split("\n\n")[0].split())


def api_page():
    lines = [
        "# The Python functions",
        "",
        "This page is made by `python tools/make_pages.py` from the docstrings.",
        "All names are imported from `rloss_caffe`. None but `Net` and `get_solver` needs Caffe.",
    ]
    for name in rloss_caffe.__all__:
        value = getattr(rloss_caffe, name)
        if callable(value):
            lines += ["", f"## {name}", "", "```text", f"{name}{signature(value)}", "", inspect.getdoc(value), "```"]
            for method, function in methods(value):
                lines += ["", f"### {name}.{method}", "", "```text"]
                lines += [f"{method}{signature(function)}", "", inspect.getdoc(function), "```"]
    return "\n".join(lines) + "\n"


def methods(value):
    """The documented public methods of a class."""
    if not inspect.isclass(value):
        return []
    found = inspect.getmembers(value, inspect.isfunction)
    return [(name, function) for name, function in found if not name.startswith("_") and inspect.getdoc(function)]


def signature(function):
    """Parameters and defaults, without annotations."""
    found = inspect.signature(function)
    plain = [each.replace(annotation=each.empty) for each in found.parameters.values() if each.name != "self"]
    return str(found.replace(parameters=plain, return_annotation=found.empty))


if __name__ == "__main__":
    sys.exit(main())
