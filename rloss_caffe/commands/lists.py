"""Make the lists of the VOC scribble experiments from a VOC tree, and check every file they name.

The tree holds JPEGImages/, SegmentationClassAug/, pascal_2012_scribble/ and ImageSets/Segmentation/val.txt. Written:

  train.txt       training images with scribbles: 10582 lines on the complete data
  train_full.txt  the same images with their full masks, for full supervision
  train_aug.txt   every training image that has a full mask, with it, whether it has scribbles or not
  val.txt         VOC's 1449 validation images with their full masks
  train_id.txt, val_id.txt   the ids of train.txt and val.txt, one a line

Training images are all that have a mask in SegmentationClassAug/ and are not in val. A tree without ImageSets/ that
brings its own list/ of files like train.txt is accepted too: its lists are checked and copied.
Nothing is written while files are missing or wrong, unless --skip-missing leaves those lines out.
"""

import os
import sys
from pathlib import Path

from rloss_caffe.commands._data_root import add_data_root, data_root
from rloss_caffe.commands._problems import report
from rloss_caffe.datasets.lists import FOLDERS, check_lists, copied_lists, voc_lists, without, write_lists

__all__ = ["add_arguments", "run"]

EXAMPLE = "rloss-caffe lists --data-root VOC2012"


def add_arguments(parser):
    add_data_root(parser)
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="default: DATA_ROOT/list")
    parser.add_argument("--ids", metavar="FILE", help="train on these ids, one a line, instead of all")
    parser.add_argument("--from-lists", type=Path, metavar="FOLDER", help="check and copy the lists in this folder")
    parser.add_argument("--skip-missing", action="store_true", help="leave out what is missing or wrong, and go on")


def run(arguments):
    """0 if the lists are written and not all of them empty."""
    root = data_root(arguments)
    if arguments.ids and arguments.from_lists:
        raise ValueError("--ids chooses images of a VOC tree, --from-lists takes lists as they are: give one of them")
    output = arguments.output or root / "list"
    own = arguments.from_lists or root / "list"
    is_copy = bool(arguments.from_lists) or (not (root / "ImageSets").exists() and not arguments.ids and own.is_dir())
    if is_copy:
        if os.path.realpath(own) == os.path.realpath(output):
            raise ValueError(f"the lists of {own} would be written over: say by --output where their copies go")
        print(f"taking the lists of {own}")
        lists = copied_lists(own, root)
    else:
        for name in FOLDERS:
            if not (root / name).is_dir():
                print(f"there is no {name}/ in {root}; 'rloss-caffe fetch' brings it", file=sys.stderr)
        lists = voc_lists(root, arguments.ids)

    problems = check_lists(lists, root)
    n_lines = sum(map(len, lists.values()))
    report(problems, output / "problems.txt", f"{len(problems)} of {n_lines} lines are missing a file or wrong")
    if problems and not arguments.skip_missing:
        print("no list was written; --skip-missing would leave these lines out")
        return 1
    lists = without(lists, problems, same_images=not is_copy)
    for name, path in write_lists(lists, output).items():
        n = len(lists[name])
        print(f"wrote {_show(path)}: {n} images" + ("" if n else " - this list is EMPTY"))
    return 0 if any(lists.values()) else 1


def _show(path):
    """A path as seen from here, where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
