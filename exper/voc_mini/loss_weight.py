#!/usr/bin/env python
"""How hard does the DenseCRF loss push, beside the cross entropy? It depends on image size, bandwidths and classes.

Usage: python exper/voc_mini/loss_weight.py --data-root FOLDER --list FILE --weights W.caffemodel [--batches 8]
       [--setting 225,60,15,21 ...]

FILE lists images with scribbles, W is what phase one made of deeplab_squeezenet. The table has for each setting, means
over batches: the gradient of the cross entropy and, for a loss weight of 1, of the DenseCRF loss, as L1 norms over the
score map and as L2 norms over all trained weights; the loss weight at which both push equally hard on the weights; and
the DenseCRF loss's L1 norm divided by crop^2 * bi_xy_std * bi_rgb_std, which changes little. Crops of 113 to 321 are
taken, so the images should be as large.
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

from rloss_caffe.data.progress import progress_bar

TEMPLATE = (
    Path(__file__).resolve().parents[1] / "pascal_scribble/config/deeplab_squeezenet/trainwithdensecrfloss.prototxt"
)
BATCH = 4
# Crop, bi_xy_std, bi_rgb_std, number of classes.
BASE = 225, 60, 15, 21
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
    parser.add_argument(
        "--setting",
        action="append",
        type=setting,
        metavar="CROP,XY,RGB,CLASSES",
        help="such as 225,60,15,21; may be given several times; default: a list of settings",
    )
    arguments = parser.parse_args()
    header = ["crop", "bi_xy_std", "bi_rgb_std", "classes", "scores: cross entropy", "DenseCRF"]
    header += ["weights: cross entropy", "DenseCRF", "equal at", "DenseCRF, divided"]
    print(tables.head(header))
    for crop, xy_std, rgb_std, classes in arguments.setting or SETTINGS:
        net = make_net(arguments, crop, xy_std, rgb_std, classes)
        norms = measure(net, arguments.batches, f"crop {crop}, {xy_std:g} / {rgb_std:g}")
        divided = norms[1] / (crop**2 * xy_std * rgb_std)
        cells = [f"{value:.3g}" for value in (*norms, norms[2] / norms[3], divided)]
        print(tables.row([f"{crop}", f"{xy_std:g}", f"{rgb_std:g}", f"{classes}", *cells]), flush=True)


def setting(text):
    crop, xy_std, rgb_std, classes = text.split(",")
    return int(crop), float(xy_std), float(rgb_std), int(classes)


def make_net(arguments, crop, xy_std, rgb_std, classes):
    """Phase two's net on that list, without mirroring and dropout, so that settings see the same."""
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
        if layer.name == "densecrf_loss":
            layer.python_param.param_str = f"bi_xy_std: {xy_std}\nbi_rgb_std: {rgb_std}"
        kept.append(layer)
    with tempfile.NamedTemporaryFile("w", suffix=".prototxt") as file:
        file.write(text_format.MessageToString(caffe_pb2.NetParameter(layer=kept)))
        file.flush()
        caffe.set_mode_cpu()
        result = caffe.Net(file.name, caffe.TRAIN)
    load(result, arguments.weights, classes)
    return result


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
    losses = ["loss", "densecrf_loss"]
    norms = np.zeros(4)
    with progress_bar(batches, title, unit="batch", leave=False) as bar:
        for _ in range(batches):
            net.forward()
            for index, (split, loss) in enumerate(zip(splits, losses)):
                for name in losses:
                    net.blobs[name].diff[...] = name == loss
                net.clear_param_diffs()
                net._backward(len(net.layers) - 1, 0)
                norms[index] += np.abs(net.blobs[split].diff).sum()
                blobs = [blob for blobs in net.params.values() for blob in blobs]
                norms[2 + index] += np.sqrt(sum(np.square(blob.diff, dtype=np.float64).sum() for blob in blobs))
            bar.update()
    return norms / batches


if __name__ == "__main__":
    run(main)
