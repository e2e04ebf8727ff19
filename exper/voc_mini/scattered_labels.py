#!/usr/bin/env python
"""Does it matter where scribbles are? Label maps with as many pixels of each class as the scribbles, but scattered.

Usage: python exper/voc_mini/scattered_labels.py --data-root FOLDER --masks LIST --scribbles LIST --output FOLDER

The lists name the same images with full masks and with scribbles. Each scribble's pixels are exchanged for as many
random ones of the same class, from all over the mask and up to its outlines. FOLDER gets a label map for each image and
list.txt; as list/train_scattered.txt, exper/run_pascal_scribble.sh TRAIN_SET_SUFFIX=_scattered trains on it.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from command_line import run
from pairs import read_pairs
from PIL import Image

from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_label


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--masks", required=True)
    parser.add_argument("--scribbles", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random = np.random.RandomState(arguments.seed)
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines = []
    pairs = read_pairs(arguments.masks, arguments.scribbles, arguments.data_root)
    with progress_bar(len(pairs), "scattering") as bar:
        for masks, scribbles in pairs:
            path = arguments.output / f"{Path(masks.image).stem}.png"
            Image.fromarray(scatter(read_label(scribbles.label), read_label(masks.label), random)).save(path)
            lines.append(" ".join(os.path.relpath(name, arguments.data_root) for name in (masks.image, path)) + "\n")
            bar.update()
    (arguments.output / "list.txt").write_text("".join(lines))
    print(f"wrote {len(lines)} label maps and {arguments.output / 'list.txt'}")


def scatter(scribbles, mask, random):
    """Of every class as many pixels as `scribbles` (H, W) has, from anywhere in `mask` (H, W); 255 elsewhere."""
    scattered = np.full(mask.size, 255, np.uint8)
    for label in np.setdiff1d(scribbles, [255]):
        places = np.flatnonzero(mask.ravel() == label)
        count = min(len(places), np.count_nonzero(scribbles == label))
        scattered[random.choice(places, count, replace=False)] = label
    return scattered.reshape(mask.shape)


if __name__ == "__main__":
    run(main)
