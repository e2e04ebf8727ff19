#!/usr/bin/env python
"""What limits the study's networks: outlines or classes?

Usage: python exper/voc_mini/limits.py --data-root FOLDER --list FILE --net PHASE-TWO-NET --model NAME=W.caffemodel ...

FILE lists images with their full masks. PHASE-TWO-NET is a filled-in trainwithdensecrfloss.prototxt, such as the study
leaves below OUTPUT/SEED/RUN/config. The table has a row for each model. In per cent:

    mean IoU                          of all classes
    background / foreground           mean IoU of these two; all objects are one class
    recall, precision                 of that foreground
    right class                       of the foreground that is found, how much has the right class
    missed, taken near outlines       of the foreground within 8 pixels of the background, how much is missed; of the
                                      background within 8 pixels of the foreground, how much is taken for foreground
    mean IoU, one class an image      if all that is found had the class that covers most of the image's foreground
    background / foreground, shifted  if the background's probability is first multiplied by the factor, one for all
                                      images, that is best for it: what a mere shift of all outlines would mend

Then the DenseCRF loss a pixel, with the net's bandwidths: of the classes found, and of the masks, which are filled in
with what was found where they say 'ignore'.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import numpy as np
import tables
from command_line import run
from outline_scores import COLUMNS, OutlineScores, ShiftedScores, without_padding

from rloss_caffe import densecrf_loss
from rloss_caffe.data.lists import read_list
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.data.reading import read_label
from rloss_caffe.nets.loss_net import LossNet

MORE_COLUMNS = ["background / foreground, shifted", "DenseCRF loss", "of the masks"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--net", required=True)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=FILE")
    arguments = parser.parse_args()
    entries = read_list(arguments.list, arguments.data_root)
    print(tables.head(["", *COLUMNS, *MORE_COLUMNS]))
    for model in arguments.model:
        name, path = model.split("=", 1)
        net = LossNet(arguments.net, Path(path))
        values = measure(net, entries, name)
        print(tables.row([name, *map(tables.cell, values)]), flush=True)


def measure(net, entries, title):
    """The values of a row."""
    scores, shifted, losses = None, ShiftedScores(), []
    with progress_bar(len(entries), title, unit="image", leave=False) as bar:
        for entry in entries:
            image, probabilities = without_padding(net.predict(entry.image))
            label = read_label(entry.label)
            scores = scores or OutlineScores(len(probabilities))
            scores.add(probabilities, label)
            shifted.add(probabilities, label)
            found = probabilities.argmax(axis=0)
            masks = np.where(label == 255, found, label)
            losses.append([loss_of(classes, net, image, len(probabilities)) for classes in (found, masks)])
            bar.update()
    return [*scores.values(), shifted.best(), *np.mean(losses, axis=0)]


def loss_of(classes, net, image, n_classes):
    """The DenseCRF loss of hard decisions, a pixel."""
    segmentation = (classes == np.arange(n_classes)[:, None, None]).astype(np.float32)
    return densecrf_loss(image[None], segmentation[None], net.bi_xy_std, net.bi_rgb_std).value / classes.size


if __name__ == "__main__":
    run(main)
