"""Nets around one loss layer of ours, and what to feed them."""

import numpy as np

from helpers.images import probabilities, smooth_image


def make_net(tmp_path, layer, bottoms, param_str, tops=("loss",), size=(2, 3, 12, 13), weights="loss_weight: 0.5"):
    """A net whose loss asks for a gradient: bottoms are of "data", "segmentation", "label" and "roi".

    All but the segmentation are inputs; that is the input "score" times a learned scale, so that it has a diff.
    """
    import caffe

    n, _, height, width = size
    one = (n, 1, height, width)
    shapes = {"data": (n, 3, height, width), "score": size, "label": one, "roi": one}
    text = ""
    for name in ("data", "score", *(name for name in bottoms if name in ("label", "roi"))):
        dims = " ".join(f"dim: {side}" for side in shapes[name])
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    text += 'layer { name: "segmentation" type: "Scale" bottom: "score" top: "segmentation" }\n'
    given = " ".join(f'bottom: "{name}"' for name in bottoms) + " " + " ".join(f'top: "{name}"' for name in tops)
    flags = " ".join(f"propagate_down: {str(name == 'segmentation').lower()}" for name in bottoms)
    text += (
        f'layer {{ name: "loss" type: "Python" {given} {flags} {weights} python_param {{\n'
        f'  module: "rloss_caffe.layers" layer: "{layer}" param_str: "{param_str}" }} }}\n'
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


def inputs(n=2, k=3, height=12, width=13):
    """By blob name: images, probabilities, label maps (class 1 in image 0 only), regions without the last columns."""
    images = np.array([smooth_image(height, width, seed=seed) for seed in range(n)])
    labels = np.full((n, 1, height, width), 255)
    labels[:, 0, 2, 2:9], labels[:, 0, 8, 2:9], labels[0, 0, 5, 5] = 0, 2, 1
    roi = np.ones((n, 1, height, width))
    roi[:, :, :, 10:] = 0
    return {"data": images, "score": probabilities(n, k, height, width), "label": labels, "roi": roi}
