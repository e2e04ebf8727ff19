"""ImageSegData in real nets and solvers."""

import gc
import os
import time

import numpy as np
import pytest
from helpers.files import write_pair
from helpers.paths import ROOT
from helpers.processes import ended

caffe = pytest.importorskip("caffe", reason="the layer needs pycaffe")
Image = pytest.importorskip("PIL.Image", reason="label maps are read with Pillow")


@pytest.fixture
def root(tmp_path):
    lines = []
    for index in range(6):
        entry = write_pair(tmp_path, str(index), 40 + index, 50 - index, index)
        lines.append(f"{os.path.basename(entry.image)} {os.path.basename(entry.label)}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    return tmp_path


def layer_text(root, param_str, tops=("data", "label")):
    if "source" not in param_str:
        param_str = f"source: {root}/list.txt, root_folder: {root}/, label_type: PIXEL, {param_str}"
    tops = " ".join(f'top: "{top}"' for top in tops)
    return f"""layer {{ name: "data" type: "Python" {tops}
      python_param {{ module: "rloss_caffe.layers" layer: "ImageSegData" param_str: "{{{param_str}}}" }} }}\n"""


def make_net(root, param_str, tops=("data", "label"), phase=caffe.TRAIN):
    path = root / "net.prototxt"
    path.write_text(layer_text(root, param_str, tops))
    return caffe.Net(str(path), phase)


def batches(net, count, blob="data"):
    return np.array([net.forward()[blob].copy() for _ in range(count)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tops(root, count):
    tops = ("data", "label", "data_dim")[:count]
    net = make_net(root, "batch_size: 2, crop_size: 45, prefetch: 0", tops)
    out = net.forward()
    shapes = {"data": (2, 3, 45, 45), "label": (2, 1, 45, 45), "data_dim": (2, 1, 1, 2)}
    assert {name: blob.data.shape for name, blob in net.blobs.items()} == {name: shapes[name] for name in tops}
    if count == 3:
        assert out["data_dim"].reshape(2, 2).tolist() == [[40, 45], [41, 45]]


def test_four_tops(root):
    with pytest.raises(ValueError, match="expected 1 to 3 top blobs"):
        make_net(root, "crop_size: 8", ("data", "label", "data_dim", "more"))


def test_one_top_needs_no_labels(root):
    (root / "images.txt").write_text("0.png\n1.png\n")
    net = make_net(root, f"source: {root}/images.txt, root_folder: {root}, crop_size: 33, prefetch: 0", ("data",))
    assert net.forward()["data"].any()


def test_labels_go_with_images(root):
    net = make_net(root, "batch_size: 4, crop_size: 60, mirror: true, shuffle: true, mean_value: 0, seed: 3")
    for _ in range(4):
        out = net.forward()
        inside = out["label"][:, 0] != 255
        assert np.array_equal(out["label"][:, 0][inside], out["data"][:, 0][inside] // 16)
        assert not out["data"].transpose(0, 2, 3, 1)[~inside].any() and (~inside).any()


def test_test_phase_is_the_lists_order(root):
    net = make_net(root, "crop_size: 64, mean_value: 0", ("data", "label", "data_dim"), caffe.TEST)
    sizes = [net.forward()["data_dim"].ravel().tolist() for _ in range(8)]
    assert sizes == [[40 + index % 6, 50 - index % 6] for index in range(8)]


def test_phase(root):
    """The middle of the image when testing, random places when training; a parameter decides if it is given."""
    parameters = "crop_size: 16, prefetch: 0, seed: 1"
    middle = batches(make_net(root, parameters, phase=caffe.TEST), 1)[0]
    assert np.array_equal(batches(make_net(root, parameters + ", phase: TEST"), 1)[0], middle)
    assert not np.array_equal(batches(make_net(root, parameters), 1)[0], middle)
    assert not np.array_equal(batches(make_net(root, parameters + ", phase: TRAIN", phase=caffe.TEST), 1)[0], middle)


RANDOM = "batch_size: 4, crop_size: 32, shuffle: true, mirror: true, scale_factors: [0.5, 1, 1.5]"


def test_seed_decides_everything_and_workers_nothing(root):
    expected = batches(make_net(root, RANDOM + ", seed: 5, prefetch: 0"), 5)
    for more in ("seed: 5", "seed: 5, prefetch: 1, workers: 1", "seed: 5, workers: 5"):
        assert np.array_equal(batches(make_net(root, f"{RANDOM}, {more}"), 5), expected)
    assert not np.array_equal(batches(make_net(root, RANDOM + ", seed: 6, prefetch: 0"), 5), expected)


def test_without_seed_caffes_generator_decides(root):
    found = []
    for seed in (1, 1, 2):
        caffe.set_random_seed(seed)
        found.append(batches(make_net(root, RANDOM + ", prefetch: 0"), 2))
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


def write_solver(root, extra="random_seed: 4", more=""):
    (root / "net.prototxt").write_text(
        layer_text(root, f"{RANDOM}, {more}")
        + """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "gaussian" std: 0.001 } } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
        loss_param { ignore_label: 255 } }"""
    )
    solver = root / "solver.prototxt"
    solver.write_text(f'train_net: "{root}/net.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 9 {extra}')
    return str(solver)


def test_solver_and_its_random_seed(root):
    weights = []
    for _ in range(2):
        solver = caffe.get_solver(write_solver(root))
        losses = []
        for _ in range(30):
            solver.step(1)
            losses.append(float(solver.net.blobs["loss"].data))
        weights.append(solver.net.params["score"][0].data.copy())
        assert np.mean(losses[-5:]) < losses[0]
    assert np.array_equal(*weights)


@pytest.mark.parametrize("more, iter_size", [("", 1), ("prefetch: 0", 1), ("", 3)])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(root, monkeypatch, more, iter_size):
    """Eleven iterations cross an epoch of the list within a batch."""
    path = write_solver(root, f'random_seed: 4 iter_size: {iter_size} momentum: 0.9 snapshot_prefix: "{root}/s"', more)
    whole = caffe.get_solver(path)
    whole.step(5)
    whole.snapshot()
    whole.step(6)
    monkeypatch.setenv("RLOSS_BATCHES_DONE", str(5 * iter_size))
    resumed = caffe.get_solver(path)
    resumed.restore(f"{root}/s_iter_5.solverstate")
    resumed.step(6)
    monkeypatch.delenv("RLOSS_BATCHES_DONE")
    anew = caffe.get_solver(path)
    anew.restore(f"{root}/s_iter_5.solverstate")
    anew.step(6)
    weights = [solver.net.params["score"][0].data for solver in (whole, resumed, anew)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2])


def test_batches_done_are_for_training_only(root, monkeypatch):
    parameters = "crop_size: 64, mean_value: 0, prefetch: 0"
    expected = batches(make_net(root, parameters, phase=caffe.TEST), 1)
    monkeypatch.setenv("RLOSS_BATCHES_DONE", "1")
    assert np.array_equal(batches(make_net(root, parameters, phase=caffe.TEST), 1), expected)
    for wrong in ("-1", "1.5", "one"):
        monkeypatch.setenv("RLOSS_BATCHES_DONE", wrong)
        with pytest.raises(ValueError, match=f"RLOSS_BATCHES_DONE must be a whole number of batches, found '{wrong}'"):
            make_net(root, parameters)


def test_without_crop_every_image_has_its_size(root):
    net = make_net(root, "mean_value: 0", phase=caffe.TEST)
    for index in range(7):
        shape = net.forward()["data"].shape
        assert shape == (1, 3, 40 + index % 6, 50 - index % 6)
    assert not net.layers[0]._feed.pids  # no workers: they need one size


def test_without_crop_larger_batches_need_one_size(root):
    with pytest.raises(ValueError, match="images of a batch must have one size"):
        make_net(root, "batch_size: 2").forward()
    net = make_net(root, "batch_size: 2, new_height: 30, new_width: 20")
    assert net.forward()["data"].shape == (2, 3, 30, 20)
    net = make_net(root, "is_color: false, crop_height: 10, crop_width: 12")
    assert net.forward()["data"].shape == (1, 1, 10, 12)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ("crop_size: 8, crop_width: 8, crop_height: 8", "either specify crop_size or both crop_height and crop_width"),
        ("crop_width: 8", "either specify crop_size or both crop_height and crop_width"),
        ("new_height: 8", "new_height and new_width must be set together"),
        ("mean_value: [1, 2]", "either 1 mean_value or as many as channels: 3, found 2"),
        ("is_color: false, mean_value: [1, 2, 3]", "either 1 mean_value or as many as channels: 1, found 3"),
        ("mean_file: x", "unknown parameter 'mean_file'"),
        ("label_type: PIXELS, source: x", "label_type must be one of NONE, IMAGE, PIXEL"),
        ("batch_size: 0", "batch_size must be int >= 1"),
        ("source: '', label_type: PIXEL", "cannot read the list ''"),
        ("source: /nowhere/list.txt", "cannot read the list '/nowhere/list.txt'"),
        ("scale_factors: [1, 0]", "scale_factors must be list of float > 0"),
        ("prefetch: -1", "prefetch must be int from 0 to 1000"),
        (
            "batch_size: 1000000, crop_size: 8, prefetch: 1000",
            "batch_size x crop is 1000000 x 3 x 8 x 8 .*, with prefetch",
        ),
        ("batch_size: 1000000, crop_size: 321", "309123000000 values; a blob of Caffe's holds at most 2147483647"),
        ("batch_size: 1000000000", "batch_size x the first image is .*; a blob of Caffe's holds at most"),
        ("crop_height: 1000000, crop_width: 1000000", "a blob of Caffe's holds at most"),
        (
            "new_height: 1000000, new_width: 1000000, crop_size: 8",
            "new_height x new_width is .* a blob of Caffe's holds",
        ),
        ("scale_factors: [30000]", "line 1 of the list: scaled by 30000, .*0.png becomes .* which takes .* of memory"),
        ("rand_skip: 1000000, seed: 999999", "not enough points to skip: rand_skip drew 999999, the list has 6"),
    ],
)
def test_bad_parameters(root, parameters, message):
    with pytest.raises(ValueError, match=message):
        make_net(root, parameters)


def test_the_default_label_type_does_not_train_on_background_silently(root):
    with pytest.raises(ValueError, match="list.txt, line 1: .*found '0_label.png'; for label maps write label_type"):
        make_net(root, f"source: {root}/list.txt, root_folder: {root}")


def test_a_missing_file_is_found_at_once(root):
    os.unlink(root / "4_label.png")
    with pytest.raises(ValueError, match=r"ImageSegData: .*list.txt, line 5: no such file: .*4_label.png"):
        make_net(root, "crop_size: 8")


def test_a_broken_file_is_named_when_it_is_met(root):
    (root / "3.png").write_bytes(b"broken")
    for prefetch in (0, 2):
        net = make_net(root, f"crop_size: 8, prefetch: {prefetch}", phase=caffe.TEST)
        batches(net, 3)
        with pytest.raises(ValueError, match=r"ImageSegData: line 4 of the list: could not open or decode .*3.png"):
            net.forward()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_labels_out_of_range(root, prefetch):
    """The second image of the list has one label too much."""
    label = np.full((41, 49), 20, np.uint8)
    label[3, 4:] = 255
    Image.fromarray(label).save(root / "1_label.png")
    options = f"crop_size: 16, prefetch: {prefetch}, num_labels: "
    for _ in range(2):
        make_net(root, options + "21").forward()
    net = make_net(root, options + "20", phase=caffe.TEST)
    with pytest.raises(
        ValueError, match="line 2 of the list: labels must be from 0 to 19 or 255, found 20 in .*1_label"
    ):
        for _ in range(2):
            net.forward()
    with pytest.raises(ValueError, match="num_labels must be int from 1 to 256, found 0"):
        make_net(root, options + "0")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_workers_end_with_the_net(root):
    net = make_net(root, RANDOM)
    net.forward()
    pids = net.layers[0]._feed.pids
    assert len(pids) == 2
    del net
    gc.collect()
    assert ended(pids)


def test_prefetching_overlaps_with_caffes_own_layers(root):
    """While Caffe computes without letting Python run, the workers finish their batches."""
    net = make_net(root, "batch_size: 8, crop_size: 32, prefetch: 2, workers: 1")
    net.forward()
    (root / "busy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 64 dim: 96 dim: 96 } } }'
        'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"'
        " convolution_param { num_output: 256 kernel_size: 5 } }"
    )
    busy = caffe.Net(str(root / "busy.prototxt"), caffe.TEST)
    start = time.perf_counter()
    while time.perf_counter() < start + 1:
        busy.forward()
    # The answers are waiting in the pipe: nobody has read them since, and the worker needed no help of this process.
    process = net.layers[0]._feed._reader._processes[0]
    os.set_blocking(process.stdout.fileno(), False)
    waiting = process.stdout.read()
    assert waiting.count(b"{}") == 8  # one batch of the two slots: the other is the one in use


def test_the_definition_names_the_layer():
    assert "ImageSegData" in (ROOT / "prototxt" / "image_seg_data.prototxt").read_text()
