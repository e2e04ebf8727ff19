"""Convert ScribbleSup's XML files of polylines to label maps: one PNG an image, class numbers, 255 unlabelled.

A file holds <filename>, <size> and one <polygon> a stroke: <tag> with the class and <point>s with <X> and <Y>, in
pixels. The top-left pixel counts as (0, 0), unless --origin 1 says that it is (1, 1), as MATLAB counts.
Strokes are three pixels wide (a pixel belongs to one if its centre is at most 1.5 pixels from the line); later strokes
lie over earlier ones; what is outside the image is clipped.
Files that are wrong are named, the others converted; the exit status is then 1.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from rloss_caffe.data.progress import in_threads
from rloss_caffe.datasets.scribbles import convert, save
from rloss_caffe.datasets.voc import IGNORE

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe scribbles VOC2012/scribble_annotation/pascal_2012 --output VOC2012/pascal_2012_scribble"


def add_arguments(parser):
    parser.add_argument("xml", nargs="+", type=Path, metavar="XML", help="files, or folders of *.xml")
    parser.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="for ID.png")
    parser.add_argument("--width", type=float, default=3, help="of the strokes in pixels (default 3)")
    parser.add_argument(
        "--origin", type=int, choices=(0, 1), default=0, help="coordinates of the top-left pixel (default 0)"
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="JPEGImages: check sizes, or take them from there"
    )


def run(arguments):
    """0 if all files are converted."""
    if not 1 <= arguments.width <= 100:
        raise ValueError(f"--width is in pixels, from 1 to 100, found {arguments.width:g}")
    paths = [p for given in arguments.xml for p in (sorted(given.glob("*.xml")) if given.is_dir() else [given])]
    if not paths:
        raise ValueError(f"there are no .xml files in {', '.join(map(str, arguments.xml))}")
    repeated = [name for name, count in Counter(path.stem for path in paths).items() if count > 1]
    if repeated:
        raise ValueError(f"several files would become {repeated[0]}.png")
    arguments.output.mkdir(parents=True, exist_ok=True)

    def work(path):
        """The labelled share of the pixels, or what is wrong."""
        try:
            label = convert(path, arguments.width, arguments.images, arguments.origin)
            save(label, arguments.output / f"{path.stem}.png")
        except (OSError, ValueError) as error:
            return error
        return np.mean(label != IGNORE)

    results = list(in_threads(work, paths, "converting"))
    errors = [result for result in results if isinstance(result, Exception)]
    shares = [result for result in results if not isinstance(result, Exception)]
    for error in errors:
        print(f"rloss-caffe scribbles: {error}", file=sys.stderr)
    labelled = f", {100 * np.mean(shares):.2f} % of their pixels labelled" if shares else ""
    print(f"wrote {arguments.output}: {len(shares)} label maps{labelled}; {len(errors)} files were wrong")
    return 1 if errors else 0
