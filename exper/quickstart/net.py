#!/usr/bin/env python
"""Write the quickstart's nets and solvers: python exper/quickstart/net.py. The results are committed.

A small dilated network, trained from scratch: two convolutions of stride 2, five of growing dilation, a classifier,
and a fixed bilinear interpolation back to the image's size, where softmax and the losses work.
"""

from dataclasses import dataclass
from pathlib import Path

from caffe import NetSpec
from caffe import layers as L

FOLDER = Path(__file__).resolve().parent
CLASSES = 5
CROP = 160
BANDWIDTHS = "bi_xy_std: 60\nbi_rgb_std: 12"
SOLVER = """# Written by net.py
train_net: "{net}.prototxt"
base_lr: {base_lr}
lr_policy: "poly"
power: 0.9
max_iter: {max_iter}
momentum: 0.9
weight_decay: 0.0005
random_seed: 1
display: 0
snapshot_prefix: "output/{net}"
solver_mode: CPU
"""


@dataclass(frozen=True)
class Loss:
    """A loss of phase two: its layer, loss_weight and param_str, and how the tables call it."""

    layer: str
    weight: float
    parameters: str
    title: str


LOSSES = {
    "densecrf": Loss("DenseCRFLoss", 1e-7, BANDWIDTHS, "the DenseCRF loss"),
    "normalized_cut": Loss("NormalizedCutLoss", 0.3, BANDWIDTHS, "the normalised cut loss"),
    "kernel_cut": Loss("KernelCutLoss", 0.3, f"{BANDWIDTHS}\ndensecrf_weight: 3e-7", "the kernel cut loss"),
    "local_potts": Loss(
        "LocalPottsLoss",
        10,
        "radius: 1\nrelaxation: absolute\nnormalization: WEIGHTS\ncontrast: image",
        "the local Potts loss",
    ),
    "self_label": Loss("SelfLabelLoss", 1, "lambda: 20\ncontrast: image\nlabelled_weight: 0", "soft self-labelling"),
}


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
    plan = [(24, 2, 1), (32, 2, 1), (32, 1, 1), (32, 1, 2), (32, 1, 4), (32, 1, 8), (32, 1, 1)]
    for number, (channels, stride, dilation) in enumerate(plan, 1):
        conv = convolution(below, channels, stride=stride, dilation=dilation)
        below = L.ReLU(conv, in_place=True)
        setattr(net, f"conv{number}", conv)
        setattr(net, f"relu{number}", below)
    net.score_coarse = convolution(below, CLASSES, size=1)
    net.score = L.Deconvolution(
        net.score_coarse,
        convolution_param={
            "num_output": CLASSES,
            "group": CLASSES,
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
        net.probability = L.Softmax(net.score)
        bottoms = [net.data, net.probability] + ([] if loss == "densecrf" else [net.label])
        layer = L.Python(
            *bottoms,
            propagate_down=[False, True, False][: len(bottoms)],
            loss_weight=LOSSES[loss].weight,
            python_param={
                "module": "rloss_caffe.layers",
                "layer": LOSSES[loss].layer,
                "param_str": LOSSES[loss].parameters,
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
        "trainfull": train_net("masks"),
        "test": test_net(),
    }
    for name, net in nets.items():
        write(FOLDER / f"{name}.prototxt", net)
    solvers = {
        "solver": ("train", 0.01, 400),
        "solverwithdensecrfloss": ("trainwithdensecrfloss", 0.005, 200),
        "solvercontrol": ("train", 0.005, 200),
        "solverfull": ("trainfull", 0.01, 600),
    }
    for name, (net, base_lr, max_iter) in solvers.items():
        text = SOLVER.format(net=net, base_lr=base_lr, max_iter=max_iter)
        (FOLDER / f"{name}.prototxt").write_text(text)


if __name__ == "__main__":
    main()
