#!/usr/bin/env python
"""Is the DenseCRF loss lowest at the true outlines? What it says of masks whose objects are shrunk or grown.

Usage: python exper/voc_mini/moved_outlines.py --data-root FOLDER --list FILE [--kernel 30,8 ...] [--every 1]

FILE lists images with their full masks; no network and no training is needed. The outline between all objects and the
background is moved by some pixels, inwards (-) or outwards (+). Where the mask has a border of 'ignore', the true
outline is taken to be its middle. The table has for each pair of bandwidths (xy,rgb):

    -10 ... +10    how much the loss rises, a pixel, in thousandths and divided by bi_xy_std * bi_rgb_std, as its push
                   grows with these
    lowest at      by how many pixels the outline is moved where the loss is lowest, mean over the images
    -6 against +6  the price of 6 pixels too far inwards over that of 6 too far outwards: 1 if the loss is impartial,
                   0 if shrinking is free
"""

import argparse

import numpy as np
import tables
from command_line import add_bandwidths, add_every, run
from outline_scores import distance_to, sides_of

from rloss_caffe import densecrf_loss
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_image, read_label

KERNELS = [(100, 15), (60, 15), (30, 15), (30, 8), (30, 5), (15, 15), (15, 8), (15, 5), (8, 15), (8, 8)]
MOVES = [-16, -10, -6, -4, -2, 0, 2, 4, 6, 10, 16]  # pixels
SHOWN = [-10, -6, -2, 2, 6, 10]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    add_bandwidths(parser)
    add_every(parser)
    arguments = parser.parse_args()
    samples = []
    for entry in read_list(arguments.list, arguments.data_root)[:: arguments.every]:
        sides = sides_of(read_label(entry.label))
        if {0, 1} <= set(sides.ravel()):
            image = read_image(entry.image).astype(np.float32).transpose(2, 0, 1)
            samples.append((np.ascontiguousarray(image), outwards(sides)))
    if not samples:
        parser.error(f"{arguments.list}: no image has both background and objects")
    moves = [f"{move:+d}" for move in SHOWN]
    print(tables.head(["bi_xy_std", "bi_rgb_std", *moves, "lowest at", "-6 against +6"]))
    for xy_std, rgb_std in arguments.kernel or KERNELS:
        losses = []
        with progress_bar(len(samples), f"{xy_std:g} / {rgb_std:g}", unit="image", leave=False) as bar:
            for sample in samples:
                losses.append(curve(*sample, xy_std, rgb_std))
                bar.update()
        losses = np.array(losses) / (xy_std * rgb_std)
        rises = dict(zip(MOVES, 1000 * (losses - losses[:, [MOVES.index(0)]]).mean(axis=0)))
        lowest = np.mean([MOVES[index] for index in losses.argmin(axis=1)])
        cells = [f"{xy_std:g}", f"{rgb_std:g}", *(f"{rises[move]:.1f}" for move in SHOWN), f"{lowest:.1f}"]
        print(tables.row([*cells, f"{rises[-6] / rises[6]:.2f}"]), flush=True)


def outwards(sides):
    """How far outside the objects' outline each pixel lies; negative inside. Of a border of 'ignore', the middle."""
    inside = distance_to(sides == 1) < distance_to(sides == 0)
    return np.where(inside, 0.5 - distance_to(~inside), distance_to(inside) - 0.5)


def curve(image, distance, xy_std, rgb_std):
    """The loss a pixel with the outline at each of MOVES."""
    masks = (distance < move for move in MOVES)
    pairs = (np.stack([~mask, mask]).astype(np.float32) for mask in masks)
    return [densecrf_loss(image[None], pair[None], xy_std, rgb_std).value / distance.size for pair in pairs]


if __name__ == "__main__":
    run(main)
