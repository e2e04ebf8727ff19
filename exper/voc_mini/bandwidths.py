#!/usr/bin/env python
"""Which bandwidths? What both losses would make of each image if its scores were free to move, without a training.

Usage: python exper/voc_mini/bandwidths.py --data-root FOLDER --list FILE --scribbles FILE
       [--net PHASE-TWO-NET --weights W.caffemodel] [--kernel 30,8 ...] [--push 1.8] [--every 1]

The FILEs list the same images with their full masks and with scribbles. For each pair of bandwidths (xy,rgb) the scores
of every image, at a quarter of its resolution, go down the gradient of both losses: cross entropy on the scribbles, and
the DenseCRF loss with a weight of push / (height * width * bi_xy_std * bi_rgb_std). The steps are Adam's, as those of
the network's training. The table has the columns of limits.py after a few steps and after many: the former show which
way the loss pushes, the latter what it wants.

With --net and --weights the scores start as the network gives them; the net is phase two's, filled in, and the weights
are what phase one made of it. Without them they start from nothing, and only the classes that are scribbled in an image
compete there: this needs no training at all, and says nothing of classes that are mistaken.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
import tables
from adam import Adam
from command_line import add_bandwidths, add_every, run
from outline_scores import COLUMNS, OutlineScores, without_padding
from pairs import read_pairs
from scipy.special import softmax

from rloss_caffe import densecrf_loss
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets import examples, voc
from rloss_caffe.losses.gradients import score_gradient
from rloss_caffe.nets.loss_net import LossNet
from rloss_caffe.numerics.interpolation import interpolate, interpolate_adjoint

KERNELS = [(100, 15), (60, 15), (60, 8), (30, 15), (30, 8), (30, 5), (15, 15), (15, 8), (15, 5)]
STRIDE = 4  # of the network
FEW, MANY, STEP = 25, 100, 0.2
ABSENT = -10.0  # score of a class that is not scribbled, where there is no network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--scribbles", required=True)
    parser.add_argument("--net")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--push", type=float, default=1.8)
    add_bandwidths(parser)
    add_every(parser)
    arguments = parser.parse_args()
    if bool(arguments.net) != bool(arguments.weights):
        parser.error("--net and --weights belong together")
    net = LossNet(arguments.net, arguments.weights) if arguments.net else None
    pairs = read_pairs(arguments.list, arguments.scribbles, arguments.data_root)[:: arguments.every]
    print(tables.head(["bi_xy_std", "bi_rgb_std", "steps", *COLUMNS[:-1]]))
    start, samples = None, []
    for masks, scribbles in pairs:
        mask, lines = read_label(masks.label), read_label(scribbles.label)
        image, probabilities = first_guess(masks.image, lines, net)
        start = start or OutlineScores(len(probabilities))
        start.add(probabilities, mask)
        # Only as much as the score map covers: pixel STRIDE * k is where score k stands.
        height, width = (1 + (length - 1) // STRIDE * STRIDE for length in mask.shape)
        scores = np.log(np.maximum(probabilities[:, :height:STRIDE, :width:STRIDE], np.finfo(np.float32).tiny))
        image = np.ascontiguousarray(image[:, :height, :width])
        samples.append((image, scores, lines[:height:STRIDE, :width:STRIDE], mask[:height, :width]))
    if net:
        print(tables.row(["-", "-", "0", *cells(start)]), flush=True)
    for xy_std, rgb_std in arguments.kernel or KERNELS:
        results = [OutlineScores(len(samples[0][1])) for _ in range(2)]
        with progress_bar(len(samples), f"{xy_std:g} / {rgb_std:g}", unit="image", leave=False) as bar:
            for image, scores, lines, mask in samples:
                weight = arguments.push / (mask.size * xy_std * rgb_std)
                for result, found in zip(results, minimise(image, scores, lines, xy_std, rgb_std, weight)):
                    result.add(found, mask)
                bar.update()
        for steps, result in zip((FEW, MANY), results):
            print(tables.row([f"{xy_std:g}", f"{rgb_std:g}", str(steps), *cells(result)]), flush=True)


def first_guess(path, lines, net):
    """An image minus the mean, (3, H, W), and the probabilities from which its scores start, (K, H, W)."""
    if net:
        return without_padding(net.predict(path))
    image = examples.as_blob(read_image(path)[:, :, ::-1])
    scores = np.full(len(voc.CLASSES), ABSENT, np.float32)
    scores[np.setdiff1d(lines, [voc.IGNORE])] = 0
    return image, np.broadcast_to(softmax(scores)[:, None, None], (len(scores), *lines.shape)).copy()


def cells(result):
    return [tables.cell(value) for value in result.values()[:-1]]


def minimise(image, scores, lines, xy_std, rgb_std, weight):
    """The scores at the image's size after FEW and after MANY steps."""
    labelled = np.flatnonzero(lines.ravel() != voc.IGNORE)
    adam = Adam()
    for step in range(1, MANY + 1):
        gradient = densecrf_gradient(image, scores, xy_std, rgb_std, weight)
        if len(labelled):
            error = softmax(scores, axis=0).reshape(len(scores), -1)[:, labelled]
            error[lines.ravel()[labelled], np.arange(len(labelled))] -= 1
            gradient.reshape(len(scores), -1)[:, labelled] += error / len(labelled)
        scores = scores + adam.step(gradient, STEP * (1 - (step - 1) / MANY))
        if step in (FEW, MANY):
            yield interpolate(scores[None], image.shape[1:])[0]


def densecrf_gradient(image, scores, xy_std, rgb_std, weight):
    """With respect to the scores, which are blown up to the image's size as in the network."""
    probabilities = softmax(interpolate(scores[None], image.shape[1:])[0], axis=0)
    gradient = densecrf_loss(image[None], probabilities[None], xy_std, rgb_std).gradient(weight)[0]
    return interpolate_adjoint(score_gradient(probabilities, gradient)[None], scores.shape[1:])[0]


if __name__ == "__main__":
    run(main)
