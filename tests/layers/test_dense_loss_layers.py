"""Options, labels and regions of interest of the dense losses inside real Caffe nets."""

import numpy as np
import pytest
from helpers.images import probabilities, smooth_image

from rloss_caffe.losses import LOSSES

caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")

BANDWIDTHS = {"bi_xy_std": 12, "bi_rgb_std": 25}
CASES = [
    ("DenseCRFLoss", "densecrf", {"relaxation": "quadratic", "normalization": "VALID"}),
    ("DenseCRFLoss", "densecrf", {"classes": "labelled", "kernel_normalization": "symmetric"}),
    ("DenseCRFLoss", "densecrf", {"normalization": "AFFINITY", "non_negative": True, "scale_factor": 0.5}),
    ("DenseCRFLoss", "densecrf", {"gate": True, "exact_gradient": True}),
    ("NormalizedCutLoss", "normalized_cut", {"scale_factor": 0.5, "ignore_label": 1}),
    ("KernelCutLoss", "kernel_cut", {"normalized_cut_weight": 0.3, "densecrf_weight": 1e-3}),
    ("KernelCutLoss", "kernel_cut", {"normalization": "AFFINITY", "kernel_normalization": "symmetric"}),
    ("KernelCutLoss", "kernel_cut", {"densecrf_weight": 1e-3, "gate": True, "classes": "all", "exact_gradient": True}),
]


def make_net(tmp_path, layer, bottoms, param_str, size=(2, 3, 12, 14)):
    """A net whose loss asks for a gradient; all bottoms but the segmentation are inputs."""
    n, _, height, width = size
    shapes = {
        "data": (n, 3, height, width),
        "score": size,
        "label": (n, 1, height, width),
        "roi": (n, 1, height, width),
    }
    text = ""
    for name in ("data", "score", *bottoms[2:]):
        dims = " ".join(f"dim: {side}" for side in shapes[name])
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
    text += 'layer { name: "segmentation" type: "Scale" bottom: "score" top: "segmentation" }\n'
    given = " ".join(f'bottom: "{name}"' for name in bottoms)
    flags = " ".join(f"propagate_down: {str(name == 'segmentation').lower()}" for name in bottoms)
    text += (
        f'layer {{ name: "loss" type: "Python" {given} top: "loss" {flags} loss_weight: 0.5 python_param {{\n'
        f'  module: "rloss_caffe.layers" layer: "{layer}" param_str: "{param_str}" }} }}\n'
    )
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), caffe.TRAIN)


def inputs(n=2, k=3, height=12, width=14):
    labels = np.full((n, 1, height, width), 255)
    labels[:, 0, 2, 2:9], labels[:, 0, 8, 2:9], labels[0, 0, 5, 5] = 0, 2, 1
    roi = np.ones((n, 1, height, width))
    roi[:, :, :, 11:] = 0
    images = np.array([smooth_image(height, width, seed=seed) for seed in range(n)])
    return {"data": images, "score": probabilities(n, k, height, width), "label": labels, "roi": roi}


@pytest.mark.parametrize("layer, name, options", CASES, ids=lambda value: None if isinstance(value, dict) else value)
def test_the_net_has_the_function_s_value_and_gradient(tmp_path, layer, name, options):
    given = inputs()
    if "ignore_label" in options:
        given["label"][given["label"] == 255] = 1
    net = make_net(tmp_path, layer, ("data", "segmentation", "label", "roi"), str({**BANDWIDTHS, **options}))
    for blob in given:
        net.blobs[blob].data[...] = given[blob]
    for _ in range(2):  # the layer's memory is used again
        net.forward()
        net.backward()
    expected = LOSSES[name](
        given["data"], given["score"], **BANDWIDTHS, labels=given["label"], roi=given["roi"], **options
    )
    assert net.blobs["loss"].data.item() == pytest.approx(expected.value, rel=1e-6)
    found = net.blobs["segmentation"].diff
    np.testing.assert_allclose(found, expected.gradient(0.5), rtol=1e-6)
    assert found.any() and not found[..., 12:].any()


@pytest.mark.parametrize(
    "param_str, message",
    [
        ("relaxation: cubic", "relaxation must be one of bilinear, quadratic, found 'cubic'"),
        ("scale_factor: 2", "scale_factor must be float > 0.* <= 1, found 2"),
        ("clases: all", "unknown parameter 'clases', did you mean 'classes'"),
    ],
)
@pytest.mark.parametrize("layer", ["DenseCRFLoss", "KernelCutLoss"])
def test_parameters_are_checked(tmp_path, layer, param_str, message):
    with pytest.raises(ValueError, match=f"{layer} param_str: .*{message}"):
        make_net(tmp_path, layer, ("data", "segmentation"), param_str)


def test_labelled_classes_need_the_bottom(tmp_path):
    net = make_net(tmp_path, "DenseCRFLoss", ("data", "segmentation"), "classes: labelled")
    with pytest.raises(ValueError, match=r"DenseCRFLoss: bottom 2 \(label\) must be given where classes is labelled"):
        net.forward()
