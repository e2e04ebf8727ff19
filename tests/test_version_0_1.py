"""What version 0.1 promised goes on working: every public name, script path and definition, each used once."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

import rloss_caffe
from rloss_caffe import bilateralfilter

SCRIPTS = [
    "tools/benchmark.py",
    "tools/check_dataset.py",
    "tools/fetch_data.py",
    "tools/make_lists.py",
    "tools/plot_training.py",
    "tools/scribbles_to_png.py",
    "tools/show_segmentations.py",
    "exper/visualize_densecrf_gradient.py",
]
CAFFE_SCRIPTS = [
    "tools/benchmark_layers.py",
    "exper/generate_networks.py",
    "exper/quickstart/run.py",
    "exper/voc_mini/bandwidths.py",
    "exper/voc_mini/limits.py",
    "exper/voc_mini/loss_weight.py",
    "exper/voc_mini/moved_outlines.py",
    "exper/voc_mini/scattered_labels.py",
    "exper/voc_mini/study.py",
]
COMMANDS = ["convert", "train", "test", "time", "device_query", "doctor"]
LAYERS = ["DenseCRF", "DenseCRFLoss", "ImageSegData", "Interp", "SegAccuracy"]
DEFINITIONS = ["dense_crf", "densecrf_loss", "image_seg_data", "interp", "seg_accuracy"]
NETWORKS = ["deeplab_largeFOV", "deeplab_msc_largeFOV", "deeplab_squeezenet", "deeplab_vgg16", "resnet-101"]
NETWORK_FILES = ["solver", "solverwithdensecrfloss", "test", "train", "trainwithdensecrfloss"]


def image(*shape):
    return 50 + 40 * np.random.RandomState(0).rand(*shape).astype(np.float32)


def show_help(*command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_features_and_lattice():
    features = rloss_caffe.bilateral_features(image(3, 5, 6), 3.0, 20.0)
    assert features.shape == (5, 5, 6)
    assert rloss_caffe.positional_features(5, 6, 3.0).shape == (2, 5, 6)
    lattice = rloss_caffe.PermutohedralLattice(features, num_threads=1, compatible=True)
    assert lattice.filter(image(2, 5, 6), reverse=True, roi=np.ones((5, 6)), out=None).shape == (2, 5, 6)
    assert (lattice.dimension, lattice.num_points, lattice.shape) == (5, 30, (5, 6))
    assert lattice.num_vertices > 0 and lattice.nbytes > 0


def test_filters():
    one = rloss_caffe.bilateral_filter(image(3, 5, 6), image(2, 5, 6), bi_xy_std=3, bi_rgb_std=20)
    batch = rloss_caffe.bilateral_filter_batch(image(1, 3, 5, 6), image(1, 2, 5, 6), bi_xy_std=3, bi_rgb_std=20)
    np.testing.assert_array_equal(batch[0], one)


def test_loss():
    images, segmentations = image(2, 3, 5, 6), np.full((2, 3, 5, 6), 1 / 3, np.float32)
    result = rloss_caffe.densecrf_loss(
        images, segmentations, bi_xy_std=3, bi_rgb_std=20, roi=None, exact_gradient=False, num_threads=1, work=None
    )
    value, gradient = rloss_caffe.densecrf_loss(images, segmentations, 3, 20, work=result.filtered)
    assert value == result.value < 0
    assert gradient.shape == segmentations.shape and (gradient < 0).all()
    assert rloss_caffe.region_of_interest(images).all()


def test_mean_field():
    probabilities = rloss_caffe.mean_field(
        image(3, 5, 6), image(3, 5, 6), max_iter=2, positional=[(3, 3)], bilateral=[(5, 30, 10)], num_threads=1
    )
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-5)


def test_threads():
    rloss_caffe.set_num_threads(2)
    assert rloss_caffe.get_num_threads() == 2
    rloss_caffe.set_num_threads(None)
    assert rloss_caffe.get_num_threads() >= 1


def test_the_swig_module():
    photo, values = image(6, 5, 3), image(5, 6)
    out, outs = np.zeros(30, np.float32), np.zeros(30, np.float32)
    bilateralfilter.bilateralfilter(photo.ravel(), values.ravel(), out, 5, 6, 20.0, 3.0)
    bilateralfilter.bilateralfilter_batch(photo.ravel(), values.ravel(), outs, 1, 1, 5, 6, 20.0, 3.0)
    assert out.all() and (out == outs).all()


def test_all_names_are_used_here():
    names = {"Net", "PermutohedralLattice", "bilateral_features", "bilateral_filter", "bilateral_filter_batch"}
    names |= {"densecrf_loss", "get_num_threads", "get_solver", "mean_field", "positional_features"}
    names |= {"region_of_interest", "set_num_threads", "__version__"}
    assert names <= set(rloss_caffe.__all__)


@pytest.mark.parametrize("name", COMMANDS)
def test_command(name):
    show_help(sys.executable, "-m", "rloss_caffe", name)


@pytest.mark.parametrize("path", SCRIPTS)
def test_script(path):
    pytest.importorskip("cv2", reason="the scripts that draw read images")
    show_help(sys.executable, str(ROOT / path))


@pytest.mark.parametrize("path", CAFFE_SCRIPTS)
def test_script_with_caffe(path):
    for module in ("caffe", "cv2", "matplotlib"):
        pytest.importorskip(module, reason="the experiments train in Caffe and draw")
    show_help(sys.executable, str(ROOT / path))


def test_run_script():
    done = subprocess.run([str(ROOT / "exper" / "run_pascal_scribble.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "DENSECRF_LOSS_WEIGHT" in done.stdout
    for name in ("quickstart.sh", "test.sh"):
        assert os.access(ROOT / "tools" / name, os.X_OK)


@pytest.mark.parametrize("network", NETWORKS)
def test_network(network, tmp_path):
    """The files are there; those of 20,000 lines after one command."""
    script = str(ROOT / "exper" / "generate_networks.py")
    subprocess.run([sys.executable, script, network, "--output", str(tmp_path)], check=True, capture_output=True)
    for name in NETWORK_FILES:
        written = tmp_path / network / f"{name}.prototxt"
        committed = ROOT / "exper" / "pascal_scribble" / "config" / network / f"{name}.prototxt"
        large = network == "resnet-101" and "solver" not in name
        assert large or committed.read_text() == written.read_text()
        assert (len(written.read_text().splitlines()) > 20000) == large


def test_layers_in_a_net_of_version_0_1(tmp_path):
    caffe = pytest.importorskip("caffe", reason="the layers need pycaffe")
    from rloss_caffe import layers

    assert set(LAYERS) <= set(layers.__all__)
    assert {path.stem for path in (ROOT / "prototxt").glob("*.prototxt")} >= set(DEFINITIONS)
    (tmp_path / "net.prototxt").write_text(
        """
        force_backward: false
        layer { name: "data" type: "Input" top: "data" top: "prob"
          input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } shape { dim: 1 dim: 2 dim: 9 dim: 9 } } }
        layer { name: "loss" type: "Python" bottom: "data" bottom: "prob" top: "loss" loss_weight: 1e-8
          propagate_down: false propagate_down: true
          python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss"
            param_str: "bi_xy_std: 5\\nbi_rgb_std: 9" } }
        """
    )
    (tmp_path / "solver.prototxt").write_text(
        f'net: "{tmp_path}/net.prototxt"\nbase_lr: 0.1\nlr_policy: "fixed"\nsnapshot_prefix: "{tmp_path}/x"\n'
    )
    caffe.set_mode_cpu()
    for net in (
        rloss_caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN),
        rloss_caffe.get_solver(str(tmp_path / "solver.prototxt")).net,
    ):
        net.blobs["data"].data[...] = 50
        net.blobs["prob"].data[...] = 0.5
        assert net.forward()["loss"].item() < 0
