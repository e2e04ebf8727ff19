"""Options, labels and regions of interest of the dense losses inside real Caffe nets."""

import numpy as np
import pytest
from helpers.loss_layers import inputs, make_net

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
