"""Nets in the old form ``layers { type: CONVOLUTION }``: converted as Caffe itself does it, the fork's types, too."""

import numpy as np
import pytest
import yaml
from helpers.files import write_pair

caffe = pytest.importorskip("caffe", reason="conversion is compared with Caffe's own")

from caffe.proto import caffe_pb2  # noqa: E402
from google.protobuf import text_format  # noqa: E402

import rloss_caffe  # noqa: E402
from rloss_caffe import layers  # noqa: E402
from rloss_caffe.nets import DialectError, convert_file, convert_text  # noqa: E402
from rloss_caffe.nets.net_conversion import NetConversion, edited_text  # noqa: E402
from rloss_caffe.nets.old_layers import new_type  # noqa: E402
from rloss_caffe.nets.prototxt import parse  # noqa: E402
from rloss_caffe.nets.schema import OLD_TYPES  # noqa: E402
from rloss_caffe.nets.text import Edits  # noqa: E402

# Every rule that Caffe has for the old form, on layers that run.
STOCK = """name: "old"  # in the old form
layers { name: "data" type: IMAGE_DATA top: "data" top: "label"
  image_data_param { source: "images.txt" batch_size: 2 crop_size: 24 mirror: false scale: 0.5 }
  transform_param { mean_value: 100 }  # it had one already
  include { phase: TRAIN } }
layers { name: "data" type: IMAGE_DATA top: "data" top: "label"
  image_data_param { source: "images.txt" batch_size: 1 crop_size: 24 } include { phase: TEST } }
layers {
  name: "conv"
  type: CONVOLUTION
  bottom: "data"
  top: "conv"
  blobs_lr: 1.50   # of the weights
  blobs_lr: 2
  weight_decay: 1
  weight_decay: 0
  param: "shared_w"
  param: "shared_b"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 weight_filler { type: "gaussian" std: 0.01 } }
}
layers { name: "again" type: CONVOLUTION bottom: "conv" top: "again" param: "shared_w" param: "shared_b"
  blob_share_mode: PERMISSIVE blob_share_mode: STRICT convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layers { name: "frozen" type: CONVOLUTION bottom: "again" top: "frozen" blobs_lr: 0 blobs_lr: 0
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layers { name: "relu" type: RELU bottom: "frozen" top: "frozen" }
layers { name: "lrn" type: LRN bottom: "frozen" top: "lrn" lrn_param { local_size: 3 } }
layers { name: "pool" type: POOLING bottom: "lrn" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "drop" type: DROPOUT bottom: "pool" top: "pool" dropout_param { dropout_ratio: 0.5 } }
layers { name: "sum" type: ELTWISE bottom: "pool" bottom: "pool" top: "sum" eltwise_param { operation: SUM } }
layers { name: "fc" type: INNER_PRODUCT bottom: "sum" top: "fc" weight_decay: 3
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" loss_weight: 0.5 }
layers { name: "accuracy" type: ACCURACY bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
FORK = """# DeepLab's first version
name: "${NET_ID}"
layers {
  name: "data"
  type: IMAGE_SEG_DATA
  top: "data"
  top: "label"
  image_data_param {
    root_folder: "${ROOT}"
    source: "${ROOT}list.txt"
    label_type: PIXEL  # label maps
    batch_size: 2
  }
  transform_param { crop_size: 33 mean_value: 104.008 mean_value: 116.669 mean_value: 122.675 mirror: true }
  include: { phase: TRAIN }
}
layers {
  bottom: "data"
  top: "fc6"
  name: "fc6"
  type: CONVOLUTION
  strict_dim: false
  blobs_lr: 1
  blobs_lr: 2.0
  weight_decay: 1
  weight_decay: 0
  convolution_param { num_output: 4 pad: 12 kernel_size: 3 hole: 12 stride: 8 weight_filler { type: "xavier" } }
}
layers { bottom: "fc6" top: "fc8" name: "fc8" type: CONVOLUTION blobs_lr: 10 blobs_lr: 20
  convolution_param { num_output: ${LABELS} kernel_size: 1 weight_filler { type: "xavier" } } }
layers { bottom: "label" top: "label_shrink" name: "label_shrink" type: INTERP interp_param { shrink_factor: 8 } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc8" bottom: "label_shrink"
  softmaxloss_param { ignore_label: 255 } include: { phase: TRAIN } }
layers { name: "accuracy" type: SEG_ACCURACY bottom: "fc8" bottom: "label_shrink" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 } }
"""


def put_into_new_form(text):
    prototxt, edits = parse(text, "NetParameter", "old"), Edits(text)
    assert NetConversion(prototxt, prototxt.message, (0, len(text)), print).convert(edits, must_be_new=True)
    return edited_text(edits, prototxt.message, "NetParameter", prototxt.placeholders)


@pytest.fixture
def images(tmp_path, monkeypatch):
    lines, pairs = [], []
    for index in range(4):
        entry = write_pair(tmp_path, str(index), 40, 45, index)
        lines.append(f"{entry.image} {index}\n")
        pairs.append(f"{index}.png {index}_label.png\n")
    (tmp_path / "images.txt").write_text("".join(lines))
    (tmp_path / "list.txt").write_text("".join(pairs))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(net, folder):
    (folder / "solver.prototxt").write_text(
        f'net: "{net}" type: "SGD" base_lr: 0.01 lr_policy: "fixed" max_iter: 3 momentum: 0.9 weight_decay: 0.01 '
        'random_seed: 3 snapshot_prefix: "s" test_iter: 1 test_interval: 100'
    )
    solver = caffe.get_solver(str(folder / "solver.prototxt"))
    solver.step(3)
    return solver.net


def layers_of(net, path):
    """The layers of a net as Caffe has them after its own changes, without what it adds when it runs them."""
    net.save(str(path))
    saved = caffe_pb2.NetParameter()
    saved.ParseFromString(path.read_bytes())
    kept = [layer for layer in saved.layer if layer.type != "Split"]
    for layer in kept:
        for name in ("blobs", "phase", "bottom", "top"):
            layer.ClearField(name)
    return kept


def test_a_stock_net_becomes_what_caffe_makes_of_it(images):
    """Layers, ParamSpecs, and the weights after three steps are the same, bit for bit."""
    (images / "old.prototxt").write_text(STOCK)
    (images / "new.prototxt").write_text(put_into_new_form(STOCK))
    old, new = trained("old.prototxt", images), trained("new.prototxt", images)
    assert layers_of(old, images / "old.caffemodel") == layers_of(new, images / "new.caffemodel")
    assert list(old.params) == list(new.params) == ["conv", "again", "frozen", "fc"]
    for name in old.params:
        for one, other in zip(old.params[name], new.params[name]):
            assert np.array_equal(one.data, other.data)


def test_a_stock_net_keeps_its_text():
    """What the new form does not need to change stays: comments, spelling of numbers, lines."""
    text = put_into_new_form(STOCK)
    assert text.startswith('name: "old"  # in the old form\nlayer { name: "data" type: "ImageData" top: "data"')
    start = text.index('  name: "conv"')
    assert text[start : text.index("convolution_param", start)].split("\n") == [
        '  name: "conv"',
        '  type: "Convolution"',
        '  bottom: "data"',
        '  top: "conv"',
        '  param { name: "shared_w" lr_mult: 1.50 decay_mult: 1 }',
        '  param { name: "shared_b" lr_mult: 2 decay_mult: 0 }   # of the weights',
        "  ",
    ]
    assert "layers" not in text and "_lr" not in text
    assert convert_text(STOCK) == STOCK  # Caffe does it when it loads the file


def test_all_types_are_known():
    """The types of the old form, the fork's included, are Caffe's and ours, or known to have no counterpart."""
    net = parse("layers { type: NONE }", "NetParameter", "x").message
    names = net.layers[0].DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name
    stock = [name for name in names if name not in OLD_TYPES and name != "NONE"]
    assert len(stock) >= 39 and len(OLD_TYPES) == 18
    known = set(caffe.layer_type_list())
    for name in stock:
        layer = parse(f"layers {{ type: {name} }}", "NetParameter", "x").message.layers[0]
        assert new_type(layer) in known
    for name, kind in OLD_TYPES.items():
        text = f'layers {{ name: "x" type: {name} }}'
        if kind in layers.__all__:
            assert f'layer: "{kind}"' in convert_text(text)
        else:
            with pytest.raises(DialectError, match=f"prototxt:1: layer 'x' of type {kind} has no counterpart"):
                convert_text(text)


def test_a_net_of_the_forks_first_version(images):
    told = []
    text = convert_text(FORK, "deeplab.prototxt", told.append)
    assert len(told) == 1 and "deeplab.prototxt:17: layer 'fc6' of type Convolution: strict_dim: false" in told[0]
    assert text.startswith('# DeepLab\'s first version\nname: "${NET_ID}"\nlayer {\n  name: "data"\n  type: "Python"\n')
    assert "pad: 12 kernel_size: 3 dilation: 12 stride" in text and "num_output: ${LABELS}" in text
    assert "  param { lr_mult: 1 decay_mult: 1 }\n  param { lr_mult: 2.0 decay_mult: 0 }\n" in text
    assert 'top: "loss"\n  loss_param { ignore_label: 255 } include: { phase: TRAIN } }' in text
    for name, value in {"NET_ID": "n", "ROOT": f"{images}/", "LABELS": "16"}.items():
        text = text.replace(f"${{{name}}}", value)
    net = text_format.Parse(text, caffe_pb2.NetParameter())
    assert yaml.safe_load(net.layer[0].python_param.param_str)["crop_size"] == 33
    assert [layer.type for layer in net.layer[1:]] == ["Convolution"] * 2 + ["Python", "SoftmaxWithLoss", "Python"]
    (images / "net.prototxt").write_text(text)
    out = rloss_caffe.Net(images / "net.prototxt", caffe.TRAIN).forward()
    assert out["loss"] > 0 and out["accuracy"].size == 3


def test_solvers_with_old_nets(images):
    """Files, and nets inside of the solver, whose old form Caffe itself would take for an empty net."""
    text = FORK
    for name, value in {"NET_ID": "n", "ROOT": f"{images}/", "LABELS": "16"}.items():
        text = text.replace(f"${{{name}}}", value)
    (images / "fork.prototxt").write_text(text)
    head = 'base_lr: 0.01 lr_policy: "fixed" max_iter: 1 random_seed: 1 snapshot_prefix: "s" '
    losses = []
    for inside in (f"train_net_param {{\n{text}\n}}", 'train_net: "fork.prototxt"'):
        (images / "solver.prototxt").write_text(head + inside)
        solver = rloss_caffe.get_solver(images / "solver.prototxt")
        solver.step(1)
        losses.append(float(solver.net.blobs["loss"].data))
    assert losses[0] == losses[1] > 0
    (images / "solver.prototxt").write_text(head + "train_net_param {\n" + STOCK + "\n}")
    assert "train_net_param {\nname" in convert_file("solver.prototxt")
    assert len(rloss_caffe.get_solver(images / "solver.prototxt").net.layers) > 10


@pytest.mark.parametrize(
    "text, message",
    [
        ('layers { name: "a" type: RELU } layer { name: "b" type: "ReLU" }', "with both 'layer' and the old form"),
        ('layers { layer { name: "a" type: "conv" } } layers { type: INTERP }', "upgrade_net_proto_text"),
        ("layers { name: 'a' type: CONVOLUTION convolution_param { hole_h: 2 } }", "needs hole, or both hole_h and"),
        ("layers { name: 'a' type: CONVOLUTION convolution_param { hole: 0 } }", "a hole must be 1 or more, found 0"),
        ("layers { name: 'a' type: CONVOLUTION convolution_param { hole: 2 dilation: 2 } }", "which mean the same"),
        ("layers { name: 'a' type: SOFTMAX_LOSS softmaxloss_param { weight_source: 'w' } }", "has weight_source"),
        (
            "layers { name: 'a' type: SOFTMAX_LOSS softmaxloss_param { ignore_label: [0, 255] } }",
            "than one ignore_label",
        ),
        ("layers { name: 'a' type: SOFTMAX softmaxloss_param { ignore_label: 255 } }", "belongs to SoftmaxWithLoss"),
        ("layers { name: 'a' type: NONSENSE }", r"prototxt:1:\d+: .*NONSENSE"),
    ],
)
def test_what_has_no_counterpart(text, message):
    with pytest.raises(DialectError, match=message):
        convert_text(text)


def test_the_oldest_form_is_left_to_caffe(tmp_path):
    text = """input: "x" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
      layers { layer { name: "c" type: "conv" num_output: 2 kernelsize: 3 } bottom: "x" top: "c" }"""
    assert convert_text(text) == text
    (tmp_path / "oldest.prototxt").write_text(text)
    assert rloss_caffe.Net(tmp_path / "oldest.prototxt", caffe.TEST).blobs["c"].data.shape == (1, 2, 2, 2)
    (tmp_path / "oldest.prototxt").write_text(text.replace('"conv"', '"nonsense"'))
    with pytest.raises(DialectError, match="layer '' has type 'nonsense', which this Caffe does not know"):
        rloss_caffe.Net(tmp_path / "oldest.prototxt", caffe.TEST)
