"""Fetch the data of the VOC scribble experiments into one VOC tree.

  voc          PASCAL VOC 2012, training and validation, from the organisers (about 2 GB)
               -> JPEGImages/, ImageSets/, SegmentationClass/
  masks        "SegmentationClassAug": VOC's masks and those of the Semantic Boundaries Dataset as label maps, in the
               packing that the authors of DeepLab made known -> SegmentationClassAug/
  scribbles    "pascal_2012_scribble": ScribbleSup's scribbles as label maps, from the authors of the regularised
               losses -> pascal_2012_scribble/
  scribblesup  the same scribbles as the authors of ScribbleSup give them, XML files -> scribble_annotation/;
               'rloss-caffe scribbles' makes pascal_2012_scribble/ of them

For the scribbles no link is built in: get the archive where its authors offer it, then name it by --url. Any source
can be replaced: --url NAME=URL takes http, https and file addresses and local paths, zip and tar archives.
Read the terms of the data before you use it: the photographs are for research.

An interrupted download goes on when the command is given again. A folder appears in the tree only when it is complete,
and one that is there is left as it is. The archives stay in --downloads; delete them when you like.
"""

import dataclasses
import sys
from pathlib import Path

from rloss_caffe.commands._data_root import add_data_root, data_root
from rloss_caffe.datasets.fetching import DEFAULT, SOURCES, fetch

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe fetch --data-root VOC2012 voc masks"


def add_arguments(parser):
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SOURCES)} (default: {' '.join(DEFAULT)})")
    add_data_root(parser)
    parser.add_argument("--downloads", type=Path, metavar="FOLDER", help="for archives (default: DATA_ROOT/downloads)")
    parser.add_argument("--url", action="append", default=[], metavar="NAME=URL", help="fetch it from there")
    parser.add_argument(
        "--sha256", action="append", default=[], metavar="NAME=DIGITS", help="the checksum; 'none' turns checking off"
    )
    parser.add_argument("--retries", type=int, default=5, help="after a cut connection (default: 5)")


def run(arguments):
    """0 if all is there, 1 if something could not be fetched; what could be is kept."""
    root = data_root(arguments, must_exist=False)
    unknown = [name for name in arguments.names if name not in SOURCES]
    if unknown:
        raise ValueError(f"unknown name {unknown[0]!r}; known are {', '.join(SOURCES)}")
    urls, checksums = _by_name("--url", arguments.url), _by_name("--sha256", arguments.sha256)
    for name, digits in checksums.items():
        if digits != "none" and (len(digits) != 64 or set(digits.lower()) - set("0123456789abcdef")):
            raise ValueError(f"--sha256 {name}: expected 64 hexadecimal digits or 'none', found {digits!r}")
    root.mkdir(parents=True, exist_ok=True)
    status = 0
    for name in dict.fromkeys(arguments.names or DEFAULT):
        source = SOURCES[name]
        if name in checksums:
            checksum = None if checksums[name] == "none" else ("sha256", checksums[name])
            source = dataclasses.replace(source, checksum=checksum)
        source = dataclasses.replace(source, url=urls.get(name, source.url))
        try:
            fetch(name, source, root, arguments.downloads or root / "downloads", arguments.retries)
        except (OSError, ValueError) as error:
            print(f"rloss-caffe fetch: {name}: {error}", file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print(f"\nrloss-caffe fetch: {name}: interrupted; the same command goes on from here", file=sys.stderr)
            return 130
    return status


def _by_name(option, values):
    result = {}
    for value in values:
        name, separator, rest = value.partition("=")
        if not separator or not rest or name not in SOURCES:
            raise ValueError(f"{option} expects NAME=..., NAME one of {', '.join(SOURCES)}; found {value!r}")
        result[name] = rest
    return result
