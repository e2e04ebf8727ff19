#!/usr/bin/env python
"""How hard does a loss push, beside the cross entropy? It depends on the loss, image size, bandwidths and classes.

Usage: python exper/voc_mini/loss_weight.py --data-root FOLDER --list FILE --weights W.caffemodel [--batches 8]
       [--loss 'normalized_cut: {bi_xy_std: 30}' ...] [--crop 225] [--setting 225,60,15,21 ...]

FILE lists images with scribbles, W is what phase one made of deeplab_squeezenet. The table has for each loss, means
over batches: the gradient of the cross entropy and, for a loss weight of 1, of the loss, as L1 norms over the score map
and as L2 norms over all trained weights; the loss weights at which both push equally hard on the scores and on the
weights; and the DenseCRF loss's L1 norm divided by crop^2 * bi_xy_std * bi_rgb_std, which changes little.

Losses are written as loss_terms.py says. --setting CROP,XY,RGB,CLASSES stands for the DenseCRF loss with these
bandwidths; without --loss the table is one of such settings. Crops of 113 to 321 are taken there, so the images should
be as large.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")

import caffe
import numpy as np
import tables
import yaml
from caffe.proto import caffe_pb2
from command_line import run
from google.protobuf import text_format
from loss_terms import add_losses, kernel_text, read_terms

from rloss_caffe import layers
from rloss_caffe.data.progress import progress_bar
from rloss_caffe.losses import LOSSES
from rloss_caffe.losses.gradients import push

TEMPLATE = (
    Path(__file__).resolve().parents[1] / "pascal_scribble/config/deeplab_squeezenet/trainwithdensecrfloss.prototxt"
)
BATCH = 4
LOSS = "densecrf_loss"  # the name of its layer and top
CROP, CLASSES = 225, 21
BASE = CROP, 60, 15, CLASSES  # crop, bi_xy_std, bi_rgb_std, number of classes
SETTINGS = [
    BASE,
    *[(crop, 60, 15, 21) for crop in (113, 161, 321)],
    *[(crop, 60 * crop / 225, 15, 21) for crop in (113, 161, 321)],
    *[(225, xy_std, 15, 21) for xy_std in (15, 30, 100)],
    *[(225, 60, rgb_std, 21) for rgb_std in (5, 8, 30)],
    (225, 60, 15, 18),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--list", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--batches", type=int, default=8)
    add_losses(parser)
    parser.add_argument("--crop", type=int, default=CROP, help=f"for --loss; default: {CROP}")
    parser.add_argument(
        "--setting",
        action="append",
        type=setting,
        metavar="CROP,XY,RGB,CLASSES",
        help="such as 225,60,15,21; may be given several times; default: a list of settings",
    )
    arguments = parser.parse_args()
    rows = [(read_term(text), text, arguments.crop, CLASSES) for text in arguments.loss]
    for crop, xy_std, rgb_std, classes in arguments.setting or ([] if rows else SETTINGS):
        text = kernel_text(xy_std, rgb_std)
        rows.append((read_term(text), text, crop, classes))
    header = ["loss", "crop", "classes", "scores: cross entropy", "loss", "weights: cross entropy", "loss"]
    print(tables.head([*header, "equal on scores at", "on weights at", "DenseCRF, divided"]))
    for term, text, crop, classes in rows:
        norms = measure(make_net(arguments, term, crop, classes), arguments.batches, f"crop {crop}, {text}")
        cells = [f"{value:.3g}" for value in (*norms, norms[0] / norms[1], norms[2] / norms[3])]
        divided = "-"
        if term.name == "densecrf":
            divided = f"{norms[1] / (crop**2 * term.option('bi_xy_std') * term.option('bi_rgb_std')):.3g}"
        print(tables.row([text, str(crop), str(classes), *cells, divided]), flush=True)


def read_term(text):
    """One loss, without a weight of its own."""
    term, *others = read_terms(text)
    if others or term.weight or term.push:
        raise ValueError(f"one loss at a time, without weight or push: found {text!r}")
    return term


def setting(text):
    crop, xy_std, rgb_std, classes = text.split(",")
    return int(crop), float(xy_std), float(rgb_std), int(classes)


def make_net(arguments, term, crop, classes):
    """Phase two's net with that loss, on that list, without mirroring and dropout, so that all losses see the same."""
    text = TEMPLATE.read_text().replace("${NUM_LABELS}", str(classes)).replace("${DENSECRF_LOSS_WEIGHT}", "1")
    net = text_format.Parse(text.replace("${EXP}", "pascal_scribble"), caffe_pb2.NetParameter())
    kept = []
    for layer in net.layer:
        if layer.type == "Dropout" or layer.name == "accuracy":
            continue
        if layer.name == "data":
            given = yaml.safe_load(layer.python_param.param_str)
            given.update(source=arguments.list, root_folder=arguments.data_root, crop_size=crop, batch_size=BATCH)
            given.update(mirror=False, shuffle=False, seed=1)
            layer.python_param.param_str = yaml.safe_dump(given)
        if layer.name == LOSS:
            kind = layer_of(term.name)
            layer.python_param.layer = kind.__name__
            layer.python_param.param_str = yaml.safe_dump(term.options)
            blobs = {"image": "data", "segmentation": "fc8_interp_softmax", "label": "label"}
            if term.shrink != 1:
                blobs = {"image": "data_small", "segmentation": "softmax_small", "label": "label_small"}
                kept.extend(small_layers(term.shrink))
            bottoms = [name.rstrip("?") for name in kind.BOTTOMS]
            del layer.bottom[:], layer.propagate_down[:]
            layer.bottom.extend(blobs[name] for name in bottoms if name in blobs)
            layer.propagate_down.extend(name == "segmentation" for name in bottoms if name in blobs)
        kept.append(layer)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(caffe_pb2.NetParameter(layer=kept)))
        file.flush()
        caffe.set_mode_cpu()
        result = caffe.Net(file.name, caffe.TRAIN)
    load(result, arguments.weights, classes)
    return result


def small_layers(factor):
    """The image, the labels and the probabilities at every so many-th row and column."""
    layers = [
        caffe_pb2.LayerParameter(
            name=f"{name}_small",
            type="Python",
            bottom=[bottom],
            top=[f"{name}_small"],
            python_param={"module": "rloss_caffe.layers", "layer": "Interp", "param_str": f"shrink_factor: {factor}"},
        )
        for name, bottom in (("data", "data"), ("label", "label"), ("scores", "fc8_interp"))
    ]
    softmax = caffe_pb2.LayerParameter(name="softmax_small", type="Softmax", bottom=["scores_small"])
    softmax.top.append("softmax_small")
    return [*layers, softmax]


def layer_of(name):
    """The layer whose function has that name."""
    kinds = (getattr(layers, kind) for kind in layers.__all__)
    return next(kind for kind in kinds if getattr(kind, "LOSS", None) is LOSSES[name])


def load(net, path, classes):
    """Weights; of a classifier with more classes than the net's the last ones are left out."""
    weights = caffe_pb2.NetParameter.FromString(Path(path).read_bytes())
    for layer in weights.layer:
        for index, blob in enumerate(layer.blobs):
            if layer.name in net.params:
                values = np.array(blob.data, np.float32).reshape(blob.shape.dim)
                target = net.params[layer.name][index].data
                target[...] = values[: len(target)]


def measure(net, batches, title):
    """L1 norms of the scores' gradients, then L2 norms of the weights', of each loss, averaged."""
    splits = [f"fc8_pascal_scribble_fc8_pascal_scribble_0_split_{index}" for index in (0, 1)]
    losses = ["loss", LOSS]
    norms = np.zeros(4)
    with progress_bar(batches, title, unit="batch", leave=False) as bar:
        for _ in range(batches):
            net.forward()
            for index, (split, loss) in enumerate(zip(splits, losses)):
                for name in losses:
                    net.blobs[name].diff[...] = name == loss
                net.clear_param_diffs()
                net._backward(len(net.layers) - 1, 0)
                norms[index] += push(net.blobs[split].diff)
                blobs = [blob for blobs in net.params.values() for blob in blobs]
                norms[2 + index] += np.sqrt(sum(np.square(blob.diff, dtype=np.float64).sum() for blob in blobs))
            bar.update()
    return norms / batches


if __name__ == "__main__":
    run(main)
