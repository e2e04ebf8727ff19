"""Thousands of damaged prototxts: each is read, or gives a DialectError that can be shown; Caffe takes what is read."""

import random
import re

import pytest
from helpers.children import in_child
from helpers.mutations import mutated

caffe = pytest.importorskip("caffe", reason="prototxts are read with the installed Caffe's schema")

from helpers.small_solvers import SMALL_NET  # noqa: E402

import rloss_caffe  # noqa: E402
from rloss_caffe.nets import DialectError, convert_file, read_net, read_solver  # noqa: E402
from rloss_caffe.nets.net_file import FolderForCaffe, read_net_file  # noqa: E402

FORK = """# a comment with a brace { and ${NOTHING}
name: "${NET}"
layer { name: "data"  type: "ImageSegData"  top: "data"  top: "label"  include { phase: TRAIN }
  transform_param { mirror: true crop_size: 33 mean_value: 104.008 mean_value: 116.669 scale_factors: 0.5 }
  image_data_param { source: "${ROOT}list.txt"  batch_size: ${BATCH}  label_type: PIXEL seed: 3 } }
layer { name: "score" type: "Convolution" bottom: "data" top: "score" param { lr_mult: 10 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 hole: 2 weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "up" type: "Interp" bottom: "score" top: "up" interp_param { zoom_factor: 8 } }
layer { name: "loss" type: "DenseCRFLoss" bottom: "data" bottom: "up" loss_weight: 1e-9
  densecrf_loss_param { bi_xy_std: 100 bi_rgb_std: 15 } }
layer { name: "norm" type: "BatchNorm" batch_norm_param { update_global_stats: false eps: 1e-05 } }
layer { name: "accuracy" type: "SegAccuracy" bottom: "up" bottom: "label" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 metric: PixelIOU reset: false } }
"""
OLD = """name: "old"
layers { name: "data" type: IMAGE_SEG_DATA top: "data" image_data_param { source: "l" } include: { phase: TRAIN } }
layers { bottom: "data" top: "fc" name: "fc" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  convolution_param { num_output: 21 kernel_size: 1 hole: 8 } }
layers { bottom: "label" top: "small" name: "small" type: INTERP interp_param { shrink_factor: 8 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "small" softmaxloss_param { ignore_label: 255 } }
"""
SOLVER = """train_net: "${EXP}/train.prototxt"  # the net
base_lr: 0.001 lr_policy: "poly" power: 0.9 momentum: 0.9 weight_decay: 5e-4 type: "SGD"
max_iter: 100 snapshot: 10 snapshot_prefix: "s" solver_mode: CPU weights: "a, b" train_state { stage: "x" }
"""


def filled(text):
    return re.sub(r"\$\{\w+\}", "7", text)


INSIDE = f"base_lr: 0.1\nnet_param {{\n{filled(FORK)}}}\ntest_net_param {{\n{OLD}}}\n"
TEXTS = [FORK, filled(FORK), OLD, SOLVER, filled(SOLVER), INSIDE]
# Errors that are about a whole file, or about another one.
NO_LINE = r"expected a (net|solver), found|cannot read|with both 'layer' and|oldest form|this is an input"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_texts(tmp_path, monkeypatch, seed):
    """2,400 texts through four readers."""
    monkeypatch.chdir(tmp_path)
    rng, read = random.Random(seed), 0
    for _ in range(600):
        content = mutated(rng.choice(TEXTS).encode(), rng)
        (tmp_path / "x.prototxt").write_bytes(content)
        for reader in (
            lambda: convert_file("x.prototxt", warn=lambda line: line.encode()),
            lambda: convert_file("x.prototxt", "out.prototxt"),
            lambda: read_net("x.prototxt"),
            lambda: read_solver("x.prototxt"),
        ):
            try:
                reader()
                read += 1
            except DialectError as error:
                message = str(error)
                message.encode()
                assert "x.prototxt" in message or "cannot read" in message
                assert len(message) < 1100
                assert re.search(r"x\.prototxt:\d+", message) or re.search(NO_LINE, message), message
    assert read > 100


def test_what_is_read_can_be_read_by_caffe(tmp_path):
    """Protobuf in C++ refuses some texts that it takes in Python; Caffe ends the process then. 60 texts."""
    path = str(tmp_path / "x.prototxt")
    rng, taken = random.Random(0), 0
    while taken < 60:
        content = mutated(SMALL_NET.encode(), rng)
        with open(path, "wb") as file:
            file.write(content)
        try:
            net = read_net_file(path, check_types=True)
        except DialectError:
            continue
        taken += 1
        with FolderForCaffe() as folder:
            given = folder.net_path(net)
            ended, log = in_child(lambda given=given: caffe.Net(given, caffe.TEST))
        assert not (ended and "Failed to parse" in log), content


INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
LAYER = 'layer { name: "%s" type: "ReLU" bottom: "x" top: "y" }'


@pytest.mark.parametrize(
    "content, name",
    [
        ((INPUT + LAYER % "a\0b").encode(), "a\0b"),
        ((INPUT + LAYER % "a\x01b").encode(), "a\x01b"),
        ((INPUT + LAYER % "a\\qb").encode(), "a\\qb"),
        ((INPUT + LAYER % "a\\303\\251").encode(), "a\xe9"),
        (b"\xef\xbb\xbf" + (INPUT + LAYER % "ab").encode(), "ab"),
        ((INPUT + LAYER % "ab").encode("utf-16"), "ab"),
        (b"# caf\xe9\r\n" + (INPUT + LAYER % "ab").encode(), "ab"),
        ((INPUT + LAYER % "\xe9\U0001f600").encode(), "\xe9\U0001f600"),
        ((INPUT + LAYER % "it's").encode(), "it's"),
    ],
    ids=["nul", "control", "escape", "octal", "mark", "utf-16", "latin-1 comment", "unicode", "apostrophe"],
)
def test_marks_and_odd_characters(tmp_path, content, name):
    """Read, and loaded by Caffe, whose own reader takes fewer."""
    (tmp_path / "net.prototxt").write_bytes(content)
    assert read_net(tmp_path / "net.prototxt").layer[-1].name == name
    assert list(rloss_caffe.Net(tmp_path / "net.prototxt", caffe.TEST)._layer_names) == ["in", name]


@pytest.mark.parametrize(
    "text, message",
    [
        (b'layer { name: "caf\xe9" type: "ReLU" }', r"x\.prototxt:1:\d+: a text between quotes is not UTF-8"),
        (b'name: "a"\nlayer { name: "${N}" }', r"x\.prototxt:2: \$\{N\} must be filled in first"),
        (b"base_lr: 1", "expected a net, found a solver or nothing"),
        (b"", "expected a net, found a solver or nothing"),
        (b'layer { name: "' + b"x" * 50000 + b'" type: }', r"^.{0,1100}$"),
    ],
)
def test_errors_name_the_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.prototxt").write_bytes(text)
    with pytest.raises(DialectError, match=message):
        read_net("x.prototxt")


@pytest.mark.parametrize("path", ["a\0b", "x/\udc80"])
def test_paths_that_are_none(tmp_path, path):
    with pytest.raises(DialectError, match="cannot read"):
        read_net(path)
    (tmp_path / "solver.prototxt").write_text('net: "a\\000b" base_lr: 1')
    with pytest.raises(DialectError, match="cannot read"):
        convert_file(tmp_path / "solver.prototxt")
