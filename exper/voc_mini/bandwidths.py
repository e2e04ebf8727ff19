#!/usr/bin/env python
"""Which loss, which bandwidths? What losses would make of each image if its scores were free to move, without training.

Usage: python exper/voc_mini/bandwidths.py --data-root FOLDER --list FILE --scribbles FILE
       [--net PHASE-TWO-NET --weights W.caffemodel] [--loss TERMS ...] [--kernel 30,8 ...] [--push 0.2 0.6]
       [--latent 'self_label: {shrink: 4}' ...] [--every 1]

The FILEs list the same images with their full masks and with scribbles. For each loss the scores of every image, at a
quarter of its resolution, go down the gradient of the cross entropy on the scribbles and of the loss. The steps are
Adam's, as those of the network's training. TERMS is a loss or a sum of losses, with parameters, as loss_terms.py says;
--kernel XY,RGB stands for the DenseCRF loss with these bandwidths.

A loss without a weight of its own gets one, the same for all images: the one at which it pushes on the scores PUSH
times as hard as the cross entropy, before the first step. Terms of a sum share this push equally. The table has for
each PUSH the weights, and the columns of limits.py after a few steps and after many: the former show which way a loss
pushes, the latter what it wants. --latent adds rows for the latent labels that self-labelling finds from the first
scores, which are what it teaches the network next.

With --net and --weights the scores start as the network gives them; the net is phase two's, filled in, and the weights
are what phase one made of it. Classes of which the list has no scribble take no part, unless --all-classes is given.
Without a net the scores start from the scribbles, and only the classes that are scribbled in an image compete there:
this needs no training at all, and says nothing of classes that are mistaken.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
import tables
from command_line import add_bandwidths, add_every, run
from loss_terms import add_losses, losses_of, read_terms
from outline_scores import COLUMNS, OutlineScores, without_padding
from pairs import read_pairs
from scipy.special import softmax

from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_image, read_label
from rloss_caffe.datasets import examples, voc
from rloss_caffe.drawing.descent import cross_entropy_gradient, descend
from rloss_caffe.nets.loss_net import LossNet
from rloss_caffe.numerics.interpolation import interpolate

KERNELS = [(100, 15), (60, 15), (60, 8), (30, 15), (30, 8), (30, 5), (15, 15), (15, 8), (15, 5)]
STRIDE = 4  # of the network
FEW, MANY, STEP = 25, 100, 0.2
ABSENT, SCRIBBLED = -10.0, 2.0  # scores of classes, where there is no network


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--scribbles", required=True)
    parser.add_argument("--net")
    parser.add_argument("--weights", type=Path)
    add_losses(parser)
    add_bandwidths(parser)
    parser.add_argument("--latent", action="append", default=[], metavar="TERM", help="self_label with parameters")
    parser.add_argument("--push", type=float, nargs="+", default=[0.6], help="default: 0.6")
    parser.add_argument("--all-classes", action="store_true", help="those without scribbles as well")
    add_every(parser)
    arguments = parser.parse_args()
    if bool(arguments.net) != bool(arguments.weights):
        parser.error("--net and --weights belong together")
    if min(arguments.push) <= 0:
        parser.error("--push must be above 0")
    latents = {text: read_latent(text) for text in arguments.latent}
    losses = {text: read_terms(text) for text in losses_of(arguments, [] if latents else KERNELS)}
    samples, classes, start = read_samples(arguments)
    print(tables.head(["loss", "push", "weight", "steps", *COLUMNS[:-1]]))
    print(tables.row(["-", "-", "-", "0", *cells(start)]), flush=True)
    for text, term in latents.items():
        result = OutlineScores(len(classes))
        for sample in samples:
            result.add(with_others(latent_labels(term, sample), classes), sample.mask)
        print(tables.row([text, "-", "-", str(term.option("steps")), *cells(result)]), flush=True)
    for text, terms in losses.items():
        pushes = pushes_of(terms, samples)
        given = all(term.weight or term.push for term in terms)
        for push in [None] if given else arguments.push:
            weights = weights_of(terms, pushes, push)
            shown = [" + ".join(f"{value:.3g}" for value in values) for values in (weights * pushes, weights)]
            results = [OutlineScores(len(classes)) for _ in range(2)]
            with progress_bar(len(samples), text, unit="image", leave=False) as bar:
                for sample in samples:
                    for result, found in zip(results, minimise(sample, terms, weights)):
                        result.add(with_others(found, classes), sample.mask)
                    bar.update()
            for steps, result in zip((FEW, MANY), results):
                print(tables.row([text, *shown, str(steps), *cells(result)]), flush=True)


@dataclass
class Sample:
    """What is known of an image, cut to what the score map covers: pixel STRIDE * k is where score k stands."""

    image: np.ndarray  # (3, H, W), minus the mean
    scores: np.ndarray  # (K, h, w), before the first step, of the classes that take part
    lines: np.ndarray  # (H, W), scribbles, with the numbers of these
    mask: np.ndarray  # (H, W), with the numbers of all classes


def read_samples(arguments):
    """The images; of each class whether it takes part; OutlineScores of what the images start from."""
    net = LossNet(arguments.net, arguments.weights) if arguments.net else None
    samples, start = [], None
    pairs = read_pairs(arguments.list, arguments.scribbles, arguments.data_root)
    scribbled = set().union(*(np.unique(read_label(scribbles.label)) for _, scribbles in pairs))
    for masks, scribbles in pairs[:: arguments.every]:
        mask, lines = read_label(masks.label), read_label(scribbles.label)
        image, probabilities = first_guess(masks.image, lines, net)
        if not start:
            start = OutlineScores(len(probabilities))
            classes = np.array([arguments.all_classes or k in scribbled for k in range(len(probabilities))])
            numbers = np.full(256, voc.IGNORE, np.uint8)
            numbers[: len(classes)] = np.cumsum(classes) - 1
        start.add(probabilities, mask)
        height, width = (1 + (length - 1) // STRIDE * STRIDE for length in mask.shape)
        probabilities = probabilities[classes, :height:STRIDE, :width:STRIDE]
        scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
        cut = (np.ascontiguousarray(each[..., :height, :width]) for each in (image, numbers[lines], mask))
        image, lines, mask = cut
        samples.append(Sample(image, scores, lines, mask))
    return samples, classes, start


def with_others(scores, classes):
    """Scores (K, H, W) of all classes: those that take no part have the lowest."""
    result = np.full((len(classes), *scores.shape[1:]), scores.min() - 1)
    result[classes] = scores
    return result


def first_guess(path, lines, net):
    """An image minus the mean, (3, H, W), and the probabilities from which its scores start, (K, H, W)."""
    if net:
        return without_padding(net.predict(path))
    image = examples.as_blob(read_image(path)[:, :, ::-1])
    scores = np.full((len(voc.CLASSES), *lines.shape), ABSENT, np.float32)
    for label in np.setdiff1d(lines, [voc.IGNORE]):
        scores[label] = SCRIBBLED * (lines == label)
    return image, softmax(scores, axis=0)


def cells(result):
    return [tables.cell(value) for value in result.values()[:-1]]


def pushes_of(terms, samples):
    """How hard each term pushes for a weight of 1, beside the cross entropy: sums of |gradient| over all images."""
    cross_entropy, pushes = 0.0, np.zeros(len(terms))
    for sample in samples:
        cross_entropy += np.abs(cross_entropy_gradient(sample.scores, places(sample))).sum()
        for index, term in enumerate(terms):
            pushes[index] += np.abs(term.score_gradient(sample.image, sample.scores, sample.lines)).sum()
    if not cross_entropy > 0:
        raise ValueError(
            f"no scribble meets a row and a column whose number is a multiple of {STRIDE}: no cross entropy"
        )
    return pushes / cross_entropy


def weights_of(terms, pushes, push):
    """Of each term: what it says, or what makes it push as hard as it says, or as hard as its share of `push`."""
    still = sum(not (term.weight or term.push) for term in terms)
    wanted = [term.push or (push / still if still else 0) for term in terms]
    for term, found in zip(terms, pushes):
        if not term.weight and not found > 0:
            raise ValueError(f"{term.name} does not push at all: give it a weight")
    return np.array([term.weight or want / found for term, want, found in zip(terms, wanted, pushes)])


def minimise(sample, terms, weights):
    """The scores at the image's size after FEW and after MANY steps."""

    def add_gradient(scores, gradient):
        for term, weight in zip(terms, weights):
            gradient += weight * term.score_gradient(sample.image, scores, sample.lines)

    found = descend(sample.scores, places(sample), add_gradient, MANY, STEP, voc.IGNORE)
    for step, scores in enumerate(found, 1):
        if step in (FEW, MANY):
            yield interpolate(scores[None], sample.image.shape[1:])[0]


def read_latent(text):
    """The term of a loss with latent labels."""
    (term, *others) = read_terms(text)
    if others or term.name != "self_label" or term.weight or term.push:
        raise ValueError(f"--latent must be self_label, without weight or push, found {text!r}")
    return term


def latent_labels(term, sample):
    """Those of the first scores, (K, H, W), at the image's size."""
    found = term.score_result(sample.image, sample.scores, sample.lines).latent
    return interpolate(np.ascontiguousarray(found), sample.image.shape[1:])[0]


def places(sample):
    """The scribbles where the scores stand."""
    return sample.lines[::STRIDE, ::STRIDE]


if __name__ == "__main__":
    run(main)
