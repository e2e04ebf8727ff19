#!/usr/bin/env python
"""What limits the study's networks: outlines or classes? And where does the DenseCRF loss push?

Usage: python exper/voc_mini/limits.py --data-root FOLDER --list FILE --net PHASE-TWO-NET --model NAME=W.caffemodel ...

FILE lists images with their full masks; the net is a filled in trainwithdensecrfloss.prototxt. For each model, in per
cent: mean IoU; mean IoU of background and foreground, all objects being one class; recall and precision of that
foreground; how much of the foreground that is found has the right class; and the mean IoU if everything found had the
class that covers most of the image's foreground. With --steps also what becomes of the first model's results if the
scores of every image take one step down the gradient of the DenseCRF loss with respect to the probabilities: how good
the push is by itself, apart from what a network can learn from it.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np

from rloss_caffe import densecrf_loss
from rloss_caffe.confusion import ConfusionMatrix
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.reading import read_label
from rloss_caffe.loss_net import LossNet

KERNELS = [(100, 15), (60, 15), (30, 15), (15, 15), (60, 8), (30, 8)]
# Of a step: how much it changes the score of a class that fills a pixel's surroundings, on average over the pixels.
LENGTHS = [2.5, 5, 10]
COLUMNS = ["mean IoU", "background / foreground", "recall", "precision", "right class", "mean IoU, one class an image"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--net", required=True)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--steps", action="store_true")
    arguments = parser.parse_args()
    entries = read_list(arguments.list, arguments.data_root)
    print("| | " + " | ".join(COLUMNS) + " |\n" + "|---" * (1 + len(COLUMNS)) + "|")
    for index, model in enumerate(arguments.model):
        name, path = model.split("=", 1)
        net, results = LossNet(arguments.net, Path(path)), {}
        for entry in entries:
            label = read_label(entry.label)
            for key, scores in all_scores(net.predict(entry.image), arguments.steps and index == 0):
                results.setdefault(key, Result(len(scores))).add(scores, label)
        for key, result in results.items():
            cells = " | ".join(f"{figure:.1f}" for figure in result.figures())
            print(f"| {name}{key} | {cells} |", flush=True)


def all_scores(found, with_steps):
    """(what was done, scores): as they are, and after steps of several kernels and lengths."""
    rows, columns = found.size
    image, probabilities = (
        np.ascontiguousarray(part[:, :rows, :columns]) for part in (found.image, found.probabilities)
    )
    scores = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    yield "", scores
    for xy_std, rgb_std in KERNELS if with_steps else ():
        push = -densecrf_loss(image[None], probabilities[None], xy_std, rgb_std).gradient(1.0)[0]
        for length in LENGTHS:
            yield f", {xy_std} / {rgb_std}, step {length:g}", scores + length / push.sum(axis=0).mean() * push


class Result:
    """Counts over all images."""

    def __init__(self, n_classes):
        self.plain, self.one_class = ConfusionMatrix(n_classes), ConfusionMatrix(n_classes)

    def add(self, scores, label):
        self.plain.add(scores[None], label[None], [255])
        objects = label[(label > 0) & (label < 255)]
        most = np.bincount(objects).argmax() if len(objects) else 0
        only = np.zeros_like(scores)
        only[most] = scores.argmax(axis=0) > 0
        only[0] += 0.5
        self.one_class.add(only[None], label[None], [255])

    def figures(self):
        counts = self.plain.counts
        both = ConfusionMatrix(2)
        both.counts[...] = [[counts[0, 0], counts[0, 1:].sum()], [counts[1:, 0].sum(), counts[1:, 1:].sum()]]
        found = both.counts[1, 1]
        figures = [self.plain.mean_iou(), both.mean_iou(), found / both.counts[1].sum()]
        figures += [found / both.counts[:, 1].sum(), np.trace(counts[1:, 1:]) / found, self.one_class.mean_iou()]
        return [100 * figure for figure in figures]


if __name__ == "__main__":
    main()
