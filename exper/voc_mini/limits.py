#!/usr/bin/env python
"""What limits the study's networks: outlines or classes?

Usage: python exper/voc_mini/limits.py --data-root FOLDER --list FILE --net PHASE-TWO-NET --model NAME=W.caffemodel ...

FILE lists images with their full masks; the net is a filled in trainwithdensecrfloss.prototxt. For each model, in per
cent: mean IoU; mean IoU of background and foreground, all objects being one class; recall and precision of that
foreground; how much of the foreground that is found has the right class; how much of the foreground is missed, and of
the background taken for foreground, within 8 pixels of each other; and the mean IoU if everything found had the class
that covers most of the image's foreground. Then the mean IoU of background and foreground if the background's
probability is first multiplied by whatever is best for it, one factor for all images: what is gained by more than a
shift of all outlines. Last comes the DenseCRF loss a pixel, with the net's bandwidths: of the classes found, and of the
masks, filled in with what was found where they say 'ignore'.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import cv2
import numpy as np

from rloss_caffe import densecrf_loss
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.reading import read_label
from rloss_caffe.nets.loss_net import LossNet
from rloss_caffe.numerics.confusion import ConfusionMatrix

COLUMNS = ["mean IoU", "background / foreground", "recall", "precision", "right class"]
COLUMNS += ["missed near outlines", "taken near outlines", "mean IoU, one class an image"]
MORE_COLUMNS = ["background / foreground, shifted", "DenseCRF loss", "of the masks"]
NEAR = 8
SHIFTS = np.exp(np.arange(-2, 2.1, 0.25))  # factors of the background's probability


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--net", required=True)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    arguments = parser.parse_args()
    entries = read_list(arguments.list, arguments.data_root)
    print("| | " + " | ".join(COLUMNS + MORE_COLUMNS) + " |\n" + "|---" * (1 + len(COLUMNS + MORE_COLUMNS)) + "|")
    for model in arguments.model:
        name, path = model.split("=", 1)
        net, result, shifted, losses = LossNet(arguments.net, Path(path)), None, Shifted(), []
        for entry in entries:
            (image, probabilities), label = cut(net.predict(entry.image)), read_label(entry.label)
            result = result or Result(len(probabilities))
            result.add(probabilities, label)
            shifted.add(probabilities, label)
            found = probabilities.argmax(axis=0)
            masks = np.where(label == 255, found, label)
            losses.append([loss_of(classes, net, image, len(probabilities)) for classes in (found, masks)])
        cells = [*result.figures(), shifted.best(), *np.mean(losses, axis=0)]
        print(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in cells) + " |", flush=True)


def loss_of(classes, net, image, n_classes):
    """The DenseCRF loss of hard decisions, a pixel."""
    segmentation = (classes == np.arange(n_classes)[:, None, None]).astype(np.float32)
    return densecrf_loss(image[None], segmentation[None], net.bi_xy_std, net.bi_rgb_std).value / classes.size


def cut(found):
    """Image and probabilities of a LossInput without the padding."""
    rows, columns = found.size
    return tuple(np.ascontiguousarray(part[:, :rows, :columns]) for part in (found.image, found.probabilities))


def sides_of(label):
    """Label map (H, W) of background, 0, and foreground, 1; 255 stays."""
    return np.where(label == 255, label, label > 0).astype(np.uint8)


def distance_to(pixels):
    """Of each pixel to the nearest of those where `pixels` (H, W) is true."""
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


class Result:
    """Counts over all images."""

    def __init__(self, n_classes):
        self.plain, self.one_class = ConfusionMatrix(n_classes), ConfusionMatrix(n_classes)
        self.near = ConfusionMatrix(2)

    def add(self, scores, label):
        self.plain.add(scores[None], label[None], [255])
        objects = label[(label > 0) & (label < 255)]
        most = np.bincount(objects).argmax() if len(objects) else 0
        only = np.zeros_like(scores)
        only[most] = scores.argmax(axis=0) > 0
        only[0] += 0.5
        self.one_class.add(only[None], label[None], [255])
        sides = sides_of(label)
        for side in (0, 1):
            # Of one side's pixels: how far is the other side?
            near = np.where((sides == side) & (distance_to(sides == 1 - side) <= NEAR), sides, 255).astype(np.uint8)
            self.near.add(np.stack([scores[0], scores[1:].max(axis=0)])[None], near[None], [255])

    def figures(self):
        counts = self.plain.counts
        both = ConfusionMatrix(2)
        both.counts[...] = [[counts[0, 0], counts[0, 1:].sum()], [counts[1:, 0].sum(), counts[1:, 1:].sum()]]
        found = both.counts[1, 1]
        figures = [self.plain.mean_iou(), both.mean_iou(), found / both.counts[1].sum()]
        figures += [found / both.counts[:, 1].sum(), np.trace(counts[1:, 1:]) / found]
        near = self.near.counts
        figures += [near[1, 0] / max(1, near[1].sum()), near[0, 1] / max(1, near[0].sum()), self.one_class.mean_iou()]
        return [100 * figure for figure in figures]


class Shifted:
    """Counts of background and foreground over all images, with every one of SHIFTS."""

    def __init__(self):
        self.all = [ConfusionMatrix(2) for _ in SHIFTS]

    def add(self, probabilities, label):
        sides = sides_of(label)
        objects = probabilities[1:].max(axis=0)
        for counts, factor in zip(self.all, SHIFTS):
            counts.add(np.stack([factor * probabilities[0], objects])[None], sides[None], [255])

    def best(self):
        return 100 * max(counts.mean_iou() for counts in self.all)


if __name__ == "__main__":
    main()
