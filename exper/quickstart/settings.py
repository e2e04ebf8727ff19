"""What the quickstart trains, in any framework: the network, five trainings, and the losses of phase two."""

from dataclasses import dataclass

CROP = 160  # height and width of the crops in pixels
CONVOLUTIONS = [(24, 2, 1), (32, 2, 1), (32, 1, 1), (32, 1, 2), (32, 1, 4), (32, 1, 8), (32, 1, 1)]
"""Channels, stride and dilation of each; all 3 x 3."""
STRIDE = 4  # of all together
MOMENTUM, WEIGHT_DECAY, POWER = 0.9, 0.0005, 0.9
BANDWIDTHS = {"bi_xy_std": 60, "bi_rgb_std": 12}


@dataclass(frozen=True)
class Loss:
    """A loss of phase two: its class, its weight and parameters, and how the tables call it.

    It works on every `stride`-th row and column.
    """

    layer: str
    weight: float
    parameters: dict
    title: str
    stride: int = 1


LOSSES = {
    "densecrf": Loss("DenseCRFLoss", 1e-7, BANDWIDTHS, "the DenseCRF loss"),
    "normalized_cut": Loss("NormalizedCutLoss", 1, BANDWIDTHS, "the normalised cut loss"),
    "kernel_cut": Loss("KernelCutLoss", 0.3, {**BANDWIDTHS, "densecrf_weight": 3e-7}, "the kernel cut loss"),
    "local_potts": Loss(
        "LocalPottsLoss",
        10,
        {"radius": 1, "relaxation": "absolute", "normalization": "WEIGHTS", "contrast": "image"},
        "the local Potts loss",
    ),
    "self_label": Loss(
        "SelfLabelLoss", 30, {"lambda": 50, "steps": 100, "labelled_weight": 0}, "soft self-labelling", stride=4
    ),
}


@dataclass(frozen=True)
class Training:
    """One training: its title, and what it learns from, beginning with the weights of the training `start`."""

    title: str
    base_lr: float
    iterations: int
    start: str = ""
    loss: str = ""
    labels: str = "scribbles"


TRAININGS = {
    "phase_one": Training("phase one: partial cross-entropy", 0.01, 400),
    "phase_two": Training("phase two: with the DenseCRF loss", 0.005, 200, "phase_one", "densecrf"),
    "self_label": Training("phase two: with soft self-labelling", 0.005, 200, "phase_one", "self_label"),
    "control": Training("control: as long, without them", 0.005, 200, "phase_one"),
    "full": Training("full supervision by masks", 0.01, 600, labels="masks"),
}


def trainings(loss=None):
    """The five trainings and, in front of the control, another phase two with that loss: {name: Training}.

    Raises
    ------
    ValueError
        There is no such loss, or it is one of the five's.
    """
    if loss is None:
        return TRAININGS
    others = [name for name in LOSSES if name not in [training.loss for training in TRAININGS.values()]]
    if loss not in others:
        raise ValueError(f"--loss must be one of {', '.join(others)}, found {loss!r}")
    result = {}
    for name, training in TRAININGS.items():
        if name == "control":
            title = f"phase two: with {LOSSES[loss].title}"
            result[loss] = Training(title, training.base_lr, training.iterations, training.start, loss)
        result[name] = training
    return result
