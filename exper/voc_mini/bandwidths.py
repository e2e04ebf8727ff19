#!/usr/bin/env python
"""Which bandwidths? What the DenseCRF loss would make of each image if its scores were free to move, without training.

Usage: python exper/voc_mini/bandwidths.py --data-root FOLDER --list FILE --scribbles FILE --net PHASE-TWO-NET
       --weights W.caffemodel [--kernel 30,8 ...] [--push 1.8] [--every 1]

FILEs list the same images with their full masks and with scribbles, the net is phase two's, filled in, and W what phase
one made of it. For each pair of bandwidths (xy,rgb) the scores of every image, at the network's resolution, go down the
gradient of both losses: cross entropy on the scribbles, and the DenseCRF loss with a weight of
push / (height * width * bi_xy_std * bi_rgb_std). The steps are Adam's, as the network's. The table has the figures of
limits.py after a few steps and after many: the former show which way the loss pushes, the latter what it wants.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
from limits import COLUMNS, Result, cut
from pairs import read_pairs

from rloss_caffe import densecrf_loss
from rloss_caffe.data.reading import read_label
from rloss_caffe.nets.loss_net import LossNet
from rloss_caffe.numerics.interpolation import interpolate, interpolate_adjoint

KERNELS = [(100, 15), (60, 15), (60, 8), (30, 15), (30, 8), (30, 5), (15, 15), (15, 8), (15, 5)]
STRIDE = 4  # of the network
FEW, MANY, STEP = 25, 100, 0.2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--scribbles", required=True)
    parser.add_argument("--net", required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--push", type=float, default=1.8)
    add_options(parser)
    arguments = parser.parse_args()
    net = LossNet(arguments.net, arguments.weights)
    pairs = read_pairs(arguments.list, arguments.scribbles, arguments.data_root)[:: arguments.every]
    columns = ["bi_xy_std", "bi_rgb_std", "steps", *COLUMNS[:-1]]
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    start, samples = None, []
    for masks, scribbles in pairs:
        image, probabilities = cut(net.predict(masks.image))
        mask, lines = read_label(masks.label), read_label(scribbles.label)
        start = start or Result(len(probabilities))
        start.add(probabilities, mask)
        # Only as much as the score map covers: pixel STRIDE * k is where score k stands.
        height, width = (1 + (length - 1) // STRIDE * STRIDE for length in mask.shape)
        scores = np.log(np.maximum(probabilities[:, :height:STRIDE, :width:STRIDE], np.finfo(np.float32).tiny))
        image = np.ascontiguousarray(image[:, :height, :width])
        samples.append((image, scores, lines[:height:STRIDE, :width:STRIDE], mask[:height, :width]))
    print(f"| - | - | 0 | {cells(start)} |", flush=True)
    for xy_std, rgb_std in arguments.kernel or KERNELS:
        few, many = (Result(len(samples[0][1])) for _ in range(2))
        for image, scores, lines, mask in samples:
            weight = arguments.push / (mask.size * xy_std * rgb_std)
            for result, found in zip((few, many), minimise(image, scores, lines, xy_std, rgb_std, weight)):
                result.add(found, mask)
        for steps, result in ((FEW, few), (MANY, many)):
            print(f"| {xy_std:g} | {rgb_std:g} | {steps} | {cells(result)} |", flush=True)


def add_options(parser):
    """Which pairs of bandwidths, and which images."""
    parser.add_argument("--kernel", action="append", type=kernel, metavar="XY,RGB")
    parser.add_argument("--every", type=int, default=1, help="only every n-th image")


def kernel(text):
    xy_std, rgb_std = text.split(",")
    return float(xy_std), float(rgb_std)


def cells(result):
    return " | ".join(f"{figure:.1f}" for figure in result.figures()[:-1])


def minimise(image, scores, lines, xy_std, rgb_std, weight):
    """The scores at the image's size after FEW and after MANY steps."""
    labelled = np.flatnonzero(lines.ravel() != 255)
    mean, square = np.zeros_like(scores), np.zeros_like(scores)
    for step in range(1, MANY + 1):
        gradient = weight * densecrf_gradient(image, scores, xy_std, rgb_std)
        if len(labelled):
            error = softmax(scores).reshape(len(scores), -1)[:, labelled]
            error[lines.ravel()[labelled], np.arange(len(labelled))] -= 1
            gradient.reshape(len(scores), -1)[:, labelled] += error / len(labelled)
        mean += 0.1 * (gradient - mean)
        square += 0.01 * (gradient**2 - square)
        rate = STEP * (1 - (step - 1) / MANY) * np.sqrt(1 - 0.99**step) / (1 - 0.9**step)
        scores = scores - rate * mean / (np.sqrt(square) + 1e-8)
        if step in (FEW, MANY):
            yield interpolate(scores[None], image.shape[1:])[0]


def densecrf_gradient(image, scores, xy_std, rgb_std):
    """With respect to the scores, which are blown up to the image's size as in the network."""
    probabilities = softmax(interpolate(scores[None], image.shape[1:])[0])
    gradient = densecrf_loss(image[None], probabilities[None], xy_std, rgb_std).gradient(1.0)[0]
    gradient = probabilities * (gradient - (gradient * probabilities).sum(axis=0))
    return interpolate_adjoint(gradient[None], scores.shape[1:])[0]


def softmax(scores):
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


if __name__ == "__main__":
    main()
