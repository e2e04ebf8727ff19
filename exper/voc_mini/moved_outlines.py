#!/usr/bin/env python
"""Is a loss lowest at the true outlines? What it says of masks whose objects are shrunk or grown.

Usage: python exper/voc_mini/moved_outlines.py --data-root FOLDER --list FILE
       [--loss TERMS ...] [--kernel 30,8 ...] [--every 1]

FILE lists images with their full masks; no network and no training is needed. The outline between all objects and the
background is moved by some pixels, inwards (-) or outwards (+). Where the mask has a border of 'ignore', the true
outline is taken to be its middle. TERMS is a loss or a sum of losses, with parameters, as loss_terms.py says; the terms
of a sum need weights, such as bandwidths.py finds. --kernel XY,RGB stands for the DenseCRF loss with these bandwidths.
The table has for each loss:

    -10 ... +10    how much it rises, in per cent of the highest of these values, means over the images
    lowest at      by how many pixels the outline is moved where the loss is lowest, mean over the images
    -6 against +6  the price of 6 pixels too far inwards over that of 6 too far outwards: 1 if the loss is impartial,
                   0 if shrinking is free
"""

import argparse
import os

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
import tables
from command_line import add_bandwidths, add_every, run
from loss_terms import add_losses, losses_of, read_terms
from outline_scores import distance_to, sides_of

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
    add_losses(parser)
    add_bandwidths(parser)
    add_every(parser)
    arguments = parser.parse_args()
    losses = {text: terms_of(text) for text in losses_of(arguments, KERNELS)}
    samples = []
    for entry in read_list(arguments.list, arguments.data_root)[:: arguments.every]:
        sides = sides_of(read_label(entry.label))
        if {0, 1} <= set(sides.ravel()):
            image = read_image(entry.image).astype(np.float32).transpose(2, 0, 1)
            samples.append((np.ascontiguousarray(image), outwards(sides)))
    if not samples:
        parser.error(f"{arguments.list}: no image has both background and objects")
    print(tables.head(["loss", *(f"{move:+d}" for move in SHOWN), "lowest at", "-6 against +6"]))
    for text, terms in losses.items():
        values = []
        with progress_bar(len(samples), text, unit="image", leave=False) as bar:
            for sample in samples:
                values.append(curve(*sample, terms))
                bar.update()
        values = np.array(values)
        rises = dict(zip(MOVES, (values - values[:, [MOVES.index(0)]]).mean(axis=0)))
        highest = max(rises[move] for move in SHOWN)
        lowest = np.mean([MOVES[index] for index in values.argmin(axis=1)])
        cells = [*(f"{100 * rises[move] / highest:.1f}" for move in SHOWN), f"{lowest:.1f}"]
        print(tables.row([text, *cells, f"{rises[-6] / rises[6]:.2f}"]), flush=True)


def terms_of(text):
    """Those of a loss, with weights."""
    terms = read_terms(text)
    if len(terms) == 1:
        terms[0].weight = terms[0].weight or 1
    for term in terms:
        if not term.weight:
            raise ValueError(f"{term.name}: a term of a sum needs a weight here, in {text!r}")
    return terms


def outwards(sides):
    """How far outside the objects' outline each pixel lies; negative inside. Of a border of 'ignore', the middle."""
    inside = distance_to(sides == 1) < distance_to(sides == 0)
    return np.where(inside, 0.5 - distance_to(~inside), distance_to(inside) - 0.5)


def curve(image, distance, terms):
    """The loss with the outline at each of MOVES."""
    masks = (distance < move for move in MOVES)
    pairs = (np.stack([~mask, mask]).astype(np.float32) for mask in masks)
    return [sum(term.weight * term.value(image, pair) for term in terms) for pair in pairs]


if __name__ == "__main__":
    run(main)
