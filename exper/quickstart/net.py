#!/usr/bin/env python
"""Write the quickstart's nets and solvers: python exper/quickstart/net.py. The results are committed.

A small dilated network, trained from scratch: two convolutions of stride 2, five of growing dilation, a classifier,
and a fixed bilinear interpolation back to the image's size, where softmax and the losses work.
"""

from pathlib import Path

from caffe import NetSpec
from caffe import layers as L
from settings import CONVOLUTIONS, CROP, LOSSES, MOMENTUM, POWER, TRAININGS, WEIGHT_DECAY

from rloss_caffe.datasets import examples

FOLDER = Path(__file__).resolve().parent
SOLVER = """# Written by net.py
train_net: "{net}.prototxt"
base_lr: {base_lr}
lr_policy: "poly"
power: {power}
max_iter: {max_iter}
momentum: {momentum}
weight_decay: {weight_decay}
random_seed: 1
display: 0
snapshot_prefix: "output/{net}"
solver_mode: CPU
"""


def convolution(bottom, channels, size=3, stride=1, dilation=1):
    return L.Convolution(
        bottom,
        num_output=channels,
        kernel_size=size,
        stride=stride,
        dilation=dilation,
        pad=dilation * (size // 2),
        weight_filler={"type": "msra"},
        param=[{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
    )


def trunk(net):
    """From the mean-subtracted image ``data`` to class scores ``score`` at its size."""
    net.scaled = L.Power(net.data, scale=1 / 64)
    below = net.scaled
    for number, (channels, stride, dilation) in enumerate(CONVOLUTIONS, 1):
        conv = convolution(below, channels, stride=stride, dilation=dilation)
        below = L.ReLU(conv, in_place=True)
        setattr(net, f"conv{number}", conv)
        setattr(net, f"relu{number}", below)
    net.score_coarse = convolution(below, len(examples.CLASSES), size=1)
    net.score = L.Deconvolution(
        net.score_coarse,
        convolution_param={
            "num_output": len(examples.CLASSES),
            "group": len(examples.CLASSES),
            "kernel_size": 8,
            "stride": 4,
            "pad": 2,
            "bias_term": False,
            "weight_filler": {"type": "bilinear"},
        },
        param={"lr_mult": 0, "decay_mult": 0},
    )


def train_net(labels, loss=None):
    """A training net on ``scribbles`` or ``masks``: (partial) cross-entropy, and a loss of LOSSES if wanted.

    The DenseCRF loss needs no labels; the others take them to know an image's classes, or which pixels are labelled.
    """
    net = NetSpec()
    net.data, net.label = L.Python(
        ntop=2, python_param={"module": "data_layer", "layer": "Photos", "param_str": f"labels: {labels}\ncrop: {CROP}"}
    )
    trunk(net)
    net.loss = L.SoftmaxWithLoss(net.score, net.label, loss_param={"ignore_label": 255})
    if loss:
        image, score, label = net.data, net.score, net.label
        if LOSSES[loss].stride > 1:
            stride = LOSSES[loss].stride
            every = {"module": "rloss_caffe.layers", "layer": "Interp"}
            every["param_str"] = f"shrink_factor: {stride}\npad_end: {(1 - CROP) % -stride}"
            image, score, label = (L.Python(blob, python_param=every) for blob in (image, score, label))
            net.data_shrunk, net.score_shrunk, net.label_shrunk = image, score, label
        net.probability = L.Softmax(score)
        bottoms = [image, net.probability] + ([] if loss == "densecrf" else [label])
        layer = L.Python(
            *bottoms,
            propagate_down=[False, True, False][: len(bottoms)],
            loss_weight=LOSSES[loss].weight,
            python_param={
                "module": "rloss_caffe.layers",
                "layer": LOSSES[loss].layer,
                "param_str": "\n".join(f"{name}: {value}" for name, value in LOSSES[loss].parameters.items()),
            },
        )
        setattr(net, f"{loss}_loss", layer)
    return net


def test_net():
    net = NetSpec()
    net.data = L.Input(input_param={"shape": {"dim": [1, 3, 256, 256]}})
    trunk(net)
    net.probability = L.Softmax(net.score)
    return net


def write(path, net):
    path.write_text(f"# Written by net.py\n{net.to_proto()}")


def write_phase_two(loss, folder):
    """Write net and solver of phase two with another loss; returns the solver's path."""
    name = f"with{loss.replace('_', '')}loss"
    write(folder / f"train{name}.prototxt", train_net("scribbles", loss))
    text = (FOLDER / "solverwithdensecrfloss.prototxt").read_text()
    path = folder / f"solver{name}.prototxt"
    path.write_text(text.replace("trainwithdensecrfloss.prototxt", str(folder / f"train{name}.prototxt")))
    return path


def main():
    nets = {
        "train": train_net("scribbles"),
        "trainwithdensecrfloss": train_net("scribbles", "densecrf"),
        "trainwithselflabelloss": train_net("scribbles", "self_label"),
        "trainfull": train_net("masks"),
        "test": test_net(),
    }
    for name, net in nets.items():
        write(FOLDER / f"{name}.prototxt", net)
    solvers = {
        "solver": ("train", TRAININGS["phase_one"]),
        "solverwithdensecrfloss": ("trainwithdensecrfloss", TRAININGS["phase_two"]),
        "solverwithselflabelloss": ("trainwithselflabelloss", TRAININGS["self_label"]),
        "solvercontrol": ("train", TRAININGS["control"]),
        "solverfull": ("trainfull", TRAININGS["full"]),
    }
    for name, (net, training) in solvers.items():
        text = SOLVER.format(
            net=net,
            base_lr=training.base_lr,
            max_iter=training.iterations,
            power=POWER,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        (FOLDER / f"{name}.prototxt").write_text(text)


if __name__ == "__main__":
    main()
