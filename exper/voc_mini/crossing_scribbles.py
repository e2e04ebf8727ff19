#!/usr/bin/env python
"""What do careless scribbles cost? Strokes that cross outlines by a few pixels on some of their length.

Usage: python exper/voc_mini/crossing_scribbles.py --data-root FOLDER --masks LIST --scribbles LIST --output FOLDER
       [--beyond 4] [--share 0.03] [--stop-at-outlines]

The lists name the same images with full masks and with scribbles. Each image's strokes get offshoots, 3 pixels wide,
from random places near an outline straight across it, until a share of the labelled pixels is wrong. With
--stop-at-outlines the same offshoots end at the outlines: what they add there is right, and the difference of both is
the price of being wrong. FOLDER gets a label map for each image and list.txt, as bandwidths.py and
run_pascal_scribble.sh read it.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from command_line import run
from pairs import read_pairs
from PIL import Image
from scipy import ndimage

from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_label
from rloss_caffe.datasets.strokes import draw_polyline

IGNORE = 255
NEAR = 15  # pixels from a stroke to the outline, at most, where there are such places
WIDTH = 3  # of an offshoot


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--masks", required=True)
    parser.add_argument("--scribbles", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--beyond", type=float, default=4, metavar="PIXELS", help="across the outline; default 4")
    parser.add_argument("--share", type=float, default=0.03, help="of labelled pixels that become wrong; default 0.03")
    parser.add_argument("--stop-at-outlines", action="store_true", help="leave out what would be wrong")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random = np.random.RandomState(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines, labelled, wrong = [], 0, 0
    pairs = read_pairs(arguments.masks, arguments.scribbles, arguments.data_root)
    with progress_bar(len(pairs), "crossing") as bar:
        for masks, scribbles in pairs:
            mask, drawn = read_label(masks.label), read_label(scribbles.label)
            crossing = cross(drawn, mask, arguments.beyond, arguments.share, random)
            if arguments.stop_at_outlines:
                crossing = np.where((crossing == mask) | (drawn != IGNORE), crossing, IGNORE)
            path = arguments.output / f"{Path(masks.image).stem}.png"
            Image.fromarray(crossing.astype(np.uint8)).save(path)
            lines.append(" ".join(os.path.relpath(name, arguments.data_root) for name in (masks.image, path)) + "\n")
            labelled += np.count_nonzero(crossing != IGNORE)
            wrong += np.count_nonzero((crossing != IGNORE) & (crossing != mask))
            bar.update()
    (arguments.output / "list.txt").write_text("".join(lines))
    print(f"wrote {len(lines)} label maps and {arguments.output / 'list.txt'}")
    print(f"{wrong / max(labelled, 1):.1%} of the labels are wrong")


def cross(scribbles, mask, beyond, share, random):
    """Scribbles (H, W) with offshoots across the outlines of `mask` (H, W), until `share` of the labels are wrong."""
    result = scribbles.copy()
    starts, ends = places(scribbles, mask)
    for index in random.permutation(len(starts)):
        is_labelled = result != IGNORE
        if np.count_nonzero(is_labelled & (result != mask)) >= share * np.count_nonzero(is_labelled):
            break
        start, end = starts[index], ends[index]
        end = end + (beyond - 1) * (end - start) / np.hypot(*(end - start))
        offshoot = np.zeros(mask.shape, np.uint8)
        draw_polyline(offshoot, np.array([start, end])[:, ::-1], 1, WIDTH)
        result[(offshoot > 0) & (result == IGNORE)] = scribbles[tuple(start)]
    return result


def places(scribbles, mask):
    """Where offshoots may begin, (N, 2) rows and columns, and the nearest pixels of other labels: near ones if any."""
    starts, ends, distances = [np.zeros((0, 2), int)], [np.zeros((0, 2), int)], [np.zeros(0)]
    for label in np.setdiff1d(scribbles, [IGNORE]):
        others = (mask != label) & (mask != IGNORE)
        if not others.any():
            continue
        distance, nearest = ndimage.distance_transform_edt(~others, return_indices=True)
        here = (scribbles == label) & (distance > 0)
        starts.append(np.argwhere(here))
        ends.append(nearest[:, here].T)
        distances.append(distance[here])
    starts, ends, distances = map(np.concatenate, (starts, ends, distances))
    near = distances <= max(NEAR, distances.min(initial=np.inf))
    return starts[near], ends[near]


if __name__ == "__main__":
    run(main)
