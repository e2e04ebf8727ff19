"""Prototxts in the fork's dialect: converted, loaded on the fly, refused; and weights that the fork has written."""

import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers.files import write_pair
from helpers.paths import ROOT

caffe = pytest.importorskip("caffe", reason="conversion needs the installed Caffe's schema")

from caffe.proto import caffe_pb2  # noqa: E402
from google.protobuf import text_format  # noqa: E402

import rloss_caffe  # noqa: E402
from rloss_caffe.nets import COPY_PREFIX, DialectError, convert_file, convert_text, read_net  # noqa: E402

# The blocks of the original's second phase, written anew on a small trunk.
FORK_NET = """# layer { a comment with a brace and ${NOTHING}
name: "${NET_ID}"
layer {
  name: "data"  type: "ImageSegData"  top: "data"  top: "label"
  include { phase: TRAIN }
  transform_param { mirror: true crop_size: 33 mean_value: 104.008 mean_value: 116.669 mean_value: 122.675
    scale_factors: 0.5 scale_factors: 1.25 }
  image_data_param {
    root_folder: "${DATA_ROOT}"  # "quoted {" in a comment
    source: "${DATA_ROOT}list.txt"  batch_size: ${BATCH}  shuffle: true  label_type: PIXEL
  }
}
layer { name: "score" type: "Convolution" bottom: "data" top: "score" param { lr_mult: 10 }
  convolution_param { num_output: ${NUM_LABELS} kernel_size: 3 pad: 1 stride: 8
    weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "label_shrink" type: "Interp" bottom: "label" top: "label_shrink"
  interp_param { shrink_factor: 8 pad_beg: 0 pad_end: 0 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label_shrink"
  loss_param { ignore_label: 255 } include: { phase: TRAIN } }
layer { name: "loss2" type: "SoftmaxWithLoss" bottom: "score" bottom: "label_shrink"
  loss_param { ignore_label: 255 } }
layer { name: "up" type: "Interp" bottom: "score" top: "up" interp_param { zoom_factor: 8 } }
layer { name: "prob" type: "Softmax" bottom: "up" top: "prob" }
layer { name: "densecrf_loss" type: "DenseCRFLoss" bottom: "data" bottom: "prob" top: "densecrf_loss"
  loss_weight: ${DENSECRF_LOSS_WEIGHT} propagate_down: false propagate_down: true
  densecrf_loss_param { bi_xy_std: 100 bi_rgb_std: 15 } loss_param { ignore_label: 255 } }
layer { name: "accuracy" type: "SegAccuracy" bottom: "score" bottom: "label_shrink" top: "accuracy"
  seg_accuracy_param { ignore_label: 255 ignore_label: 254 metric: PixelIOU reset: false } }
"""
VALUES = {"NET_ID": "net", "BATCH": "2", "NUM_LABELS": "16", "DENSECRF_LOSS_WEIGHT": "1e-8"}


def fill_in(text, root):
    for name, value in dict(VALUES, DATA_ROOT=f"{root}/").items():
        text = text.replace(f"${{{name}}}", value)
    return text


@pytest.fixture
def root(tmp_path):
    lines = []
    for index in range(2):
        entry = write_pair(tmp_path, str(index), 40, 45, index)
        lines.append(f"{os.path.basename(entry.image)} {os.path.basename(entry.label)}\n")
    (tmp_path / "list.txt").write_text("".join(lines))
    (tmp_path / "fork.prototxt").write_text(fill_in(FORK_NET.replace("${NOTHING}", ""), tmp_path))
    return tmp_path


def layers(text):
    return {layer.name: layer for layer in text_format.Parse(text, caffe_pb2.NetParameter()).layer}


def parameters(layer):
    assert layer.type == "Python" and layer.python_param.module == "rloss_caffe.layers"
    return yaml.safe_load(layer.python_param.param_str)


# --- conversion ------------------------------------------------------------------------------------------------------


def test_everything_set_is_kept_and_nothing_else_is_set(root):
    found = layers(convert_text((root / "fork.prototxt").read_text()))
    assert parameters(found["data"]) == {
        "root_folder": f"{root}/",
        "source": f"{root}/list.txt",
        "batch_size": 2,
        "shuffle": True,
        "label_type": "PIXEL",
        "mirror": True,
        "crop_size": 33,
        "mean_value": [104.008, 116.669, 122.675],
        "scale_factors": [0.5, 1.25],
    }
    assert found["data"].python_param.layer == "ImageSegData" and found["data"].include[0].phase == caffe.TRAIN
    assert not found["data"].HasField("transform_param") and not found["data"].HasField("image_data_param")
    assert parameters(found["label_shrink"]) == {"shrink_factor": 8, "pad_beg": 0, "pad_end": 0}
    assert parameters(found["up"]) == {"zoom_factor": 8}
    assert parameters(found["accuracy"]) == {"metric": "PixelIOU", "ignore_label": [255, 254], "reset": False}
    loss = found["densecrf_loss"]
    assert parameters(loss) == {"bi_xy_std": 100, "bi_rgb_std": 15}
    assert list(loss.propagate_down) == [False, True] and loss.loss_param.ignore_label == 255
    assert np.float32(loss.loss_weight[0]) == np.float32(1e-8)
    assert list(found["loss"].top) == ["loss"] and list(found["loss2"].top) == ["loss2"]
    assert found["loss"].loss_param.ignore_label == 255 and not found["loss"].loss_weight
    start = FORK_NET.index('layer { name: "score"')
    score = fill_in(FORK_NET[start : FORK_NET.index('layer { name: "label_shrink"')], root)
    assert found["score"] == text_format.Parse(score, caffe_pb2.NetParameter()).layer[0]


def test_placeholders_survive():
    text = convert_text(FORK_NET)
    assert 'name: "${NET_ID}"' in text and "num_output: ${NUM_LABELS} kernel_size" in text
    assert "loss_weight: ${DENSECRF_LOSS_WEIGHT} propagate_down" in text
    assert 'root_folder: \\"${DATA_ROOT}\\"' in text and "batch_size: ${BATCH}" in text
    assert "9000" not in text and "# layer { a comment with a brace and ${NOTHING}\n" in text


def test_filled_in_before_or_after_is_the_same(root):
    before = layers(convert_text((root / "fork.prototxt").read_text()))
    after = layers(fill_in(convert_text(FORK_NET), root))
    for name, layer in before.items():
        other = after[name]
        if layer.type == "Python":
            assert parameters(layer) == parameters(other)
            layer.ClearField("python_param"), other.ClearField("python_param")
        assert layer == other


@pytest.mark.parametrize(
    "path", sorted((ROOT / "exper").rglob("*.prototxt"))[::4], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_stock_files_are_not_changed(path):
    assert convert_file(path) == path.read_text()


def test_the_rest_of_the_file_stays_as_it_was_written():
    """Comments, spelling of numbers, indentation and line ends; numbers as short as they were."""
    text = """# how it began
layer {
\tname: "data"\ttype: "ImageSegData"   # reads
    transform_param {
        # means of BGR
        mean_value: 104.008
    }
    image_data_param { source: "l" }
    top: "data"
}
layer {
    name: 'crf'
    type: 'DenseCRFLoss'  # the loss
    bottom: "data"
    bottom: "p"  # probabilities
    loss_weight: 0.0100   # tuned
}
layer { name: "a" type: "Interp" bottom: "x" top: "y" interp_param { zoom_factor: 8 }, phase: TEST };
layer { name: "b" type: "BatchNorm" batch_norm_param { update_global_stats: false; eps: 1e-05 } } # end"""
    expected = """# how it began
layer {
\tname: "data"\ttype: "Python"   # reads
    # means of BGR
    python_param {
      module: "rloss_caffe.layers"
      layer: "ImageSegData"
      param_str: "source: \\"l\\"\\nmean_value: [104.008]"
    }
    top: "data"
}
layer {
    name: 'crf'
    type: "Python"  # the loss
    bottom: "data"
    bottom: "p"  # probabilities
    top: "crf"
    loss_weight: 0.0100   # tuned
    python_param {
      module: "rloss_caffe.layers"
      layer: "DenseCRFLoss"
      param_str: ""
    }
}
layer { name: "a" type: "Python" bottom: "x" top: "y" python_param { module: "rloss_caffe.layers" layer: "Interp" """
    expected += """param_str: "zoom_factor: 8" }, phase: TEST };
layer { name: "b" type: "BatchNorm" batch_norm_param { eps: 1e-05 } } # end"""
    assert convert_text(text) == expected
    assert convert_text(text.replace("\n", "\r\n")) == expected.replace("\n", "\r\n")


@pytest.mark.parametrize(
    "text",
    [
        'layer: [{ name: "x" type: "Interp" interp_param { zoom_factor: 8 } }, { name: "y" type: "ReLU" }]',
        'layer < name: "x" type: "Int" \'erp\' interp_param < zoom_factor: 8 > > layer { name: "y" type: "ReLU" }',
        'layer { name: "x" type: "Interp" interp_param: { zoom_factor: 8, } }; layer { name: "y" type: "ReLU" };',
        'layer{name:"x"type:"Interp"interp_param{zoom_factor: 8}}layer{name:"y"type:"ReLU"}',
        'layer { type: "Interp" interp_param { # a {\n zoom_factor: 8 } name: "x" }layer { name: "y" type: "ReLU"}',
    ],
)
def test_rare_spellings(text):
    found = layers(convert_text(text))
    assert list(found) == ["x", "y"] and parameters(found["x"]) == {"zoom_factor": 8}
    assert found["y"] == caffe_pb2.LayerParameter(name="y", type="ReLU")


def test_placeholders_in_a_word():
    text = """layer { name: "c" type: "DenseCRFLoss" top: "c" loss_weight: ${W}e-8 propagate_down: false
  densecrf_loss_param { bi_xy_std: 1${XY} bi_rgb_std: ${RGB}.5 } }"""
    text = convert_text(text)
    assert "loss_weight: ${W}e-8 " in text and "bi_xy_std: 1${XY}\\nbi_rgb_std: ${RGB}.5" in text
    for name, value in (("W", "2"), ("XY", "00"), ("RGB", "7")):
        text = text.replace(f"${{{name}}}", value)
    layer = layers(text)["c"]
    assert parameters(layer) == {"bi_xy_std": 100, "bi_rgb_std": 7.5}
    assert np.float32(layer.loss_weight[0]) == np.float32(2e-8)


def test_old_files_come_through(tmp_path):
    """Line ends of other systems, and comments in an encoding that nobody remembers."""
    (tmp_path / "stock.prototxt").write_bytes(b'# caf\xe9\r\nlayer { name: "x" type: "ReLU" }\r\n')
    run(tmp_path / "stock.prototxt", tmp_path / "out.prototxt")
    assert (tmp_path / "out.prototxt").read_bytes() == (tmp_path / "stock.prototxt").read_bytes()
    (tmp_path / "fork.prototxt").write_bytes(b'# caf\xe9\r\nlayer { name: "x" type: "Interp" }\r\n')
    command = [sys.executable, "-m", "rloss_caffe", "convert", str(tmp_path / "fork.prototxt")]
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert out.startswith(b'# caf\xe9\r\nlayer { name: "x" type: "Python" python_param {')
    text = 'input: "a" input_shape { dim: 1 dim: 1 dim: 4 dim: 4 } '
    layer = 'layer { name: "x" type: "Interp" bottom: "a" top: "b" interp_param { zoom_factor: 2 } }  # caf'
    (tmp_path / "net.prototxt").write_bytes((text + layer).encode() + b"\xe9\n")
    assert rloss_caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).blobs["b"].data.shape == (1, 1, 7, 7)


def test_layers_of_the_old_form():
    old = 'layers { name: "x" type: IMAGE_DATA %s }'
    assert convert_text(old % "") == old % ""
    with pytest.raises(DialectError, match="layer 'x' of type ImageData: transform_param.scale_factors"):
        convert_text(old % "transform_param { scale_factors: 1 }")


def test_errors_name_layer_type_and_line(root):
    with pytest.raises(DialectError, match=r"^net\.prototxt:3: layer 'w' of type MatWrite has no counterpart"):
        convert_text(
            '# {\nname: "layer {"\nlayer { name: "w" type: "MatWrite" mat_write_param { prefix: "p" } }', "net.prototxt"
        )
    (root / "s.prototxt").write_text('base_lr: 1\ntrain_net_param {\n layer { name: "w" type: "MatWrite" }}')
    with pytest.raises(DialectError, match=r"s\.prototxt:3: layer 'w' of type MatWrite"):
        convert_file(root / "s.prototxt")
    for kind in ("MatRead", "UniqueLabel", "DomainTransform", "BiasChannel", "AdaptiveBiasChannel"):
        with pytest.raises(DialectError, match=f"layer 'x' of type {kind} has no counterpart"):
            convert_text(f'layer {{ name: "x" type: "{kind}" }}')


@pytest.mark.parametrize(
    "text, message",
    [
        ('layer { name: "x" type: "Interp"\n interp_param { zoom: 8 } }', r':2:\d+: .*no field named "zoom"'),
        ('layer { name: "x"\n interp_parm { zoom_factor: 8 } }', "Did you mean 'interp_param'"),
        ('layer { name: "x"\n type: }', r"^prototxt:2:\d+: "),
        ('layer { name: "x"', r"^prototxt:1:\d+: "),
        ("layer { include { phase: ${P} } }", r"\$\{P\} can stand for a number or inside a string only"),
        (
            'layer { name: "x" type: "ImageSegData" transform_param { mean_file: "m" } }',
            "'x' .*not support a mean_file",
        ),
        (
            'layer { name: "x" type: "ImageData" image_data_param { label_type: PIXEL } }',
            "layer 'x' of type ImageData: image_data_param.label_type is the fork's",
        ),
        ('layer { name: "x" type: "Pooling" interp_param { height: 2 } }', "of type Pooling has a interp_param"),
        (
            'layer { name: "x" type: "BatchNorm" batch_norm_param { update_global_stats: true } }',
            "update_global_stats: true has no counterpart",
        ),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(DialectError, match=message):
        convert_text(text)


def test_what_the_fork_reads_is_declared_by_our_layers():
    """A field of the fork's layers that our layer does not declare would become a param_str that it refuses."""
    from rloss_caffe import layers as ours
    from rloss_caffe.nets.schema import LAYERS, fork_messages

    fork = fork_messages()["NetParameter"]().layer.add()
    for kind, messages in LAYERS.items():
        declared = {parameter.name: parameter for parameter in getattr(ours, kind).PARAMETERS}
        for message in messages:
            for field in getattr(fork, message).DESCRIPTOR.fields:
                if field.name in ("mean_file", "force_color", "force_gray"):  # which the fork's layer does not read
                    continue
                parameter = declared[field.name]
                assert (field.label == field.LABEL_REPEATED) == parameter.repeated
                if field.enum_type:
                    assert set(field.enum_type.values_by_name) == set(parameter.choices)
                else:
                    assert (parameter.kind == "float") == (field.cpp_type == field.CPPTYPE_FLOAT)


def test_our_own_parameters_are_taken_in_the_forks_messages():
    text = """layer { name: "d" type: "ImageSegData" top: "d" image_data_param { source: "l" num_labels: 21
      seed: 4294967295 prefetch: 0 workers: 3 } transform_param { crop_size: 9 } }
      layer { name: "i" type: "Interp" bottom: "d" top: "i" interp_param { zoom_factor: 2 mode: "nearest" } }
      layer { name: "c" type: "DenseCRFLoss" bottom: "d" bottom: "i" top: "c"
        densecrf_loss_param { bi_xy_std: 9 exact_gradient: true } }"""
    found = layers(convert_text(text))
    expected = {"source": "l", "num_labels": 21, "seed": 4294967295, "prefetch": 0, "workers": 3, "crop_size": 9}
    assert parameters(found["d"]) == expected
    assert parameters(found["i"]) == {"zoom_factor": 2, "mode": "nearest"}
    assert parameters(found["c"]) == {"bi_xy_std": 9, "exact_gradient": True}
    with pytest.raises(DialectError, match="image_data_param.num_labels is the fork's; stock Caffe's type has no"):
        convert_text('layer { name: "d" type: "ImageData" image_data_param { num_labels: 2 } }')


@pytest.mark.parametrize(
    "text, hint",
    [
        ("bn_param { }", ""),
        ("image_data_param { number: 21 }", ""),
        ("interp_parm { }", "'interp_param'"),
        ("convolutoin_param { }", "'convolution_param'"),
        ("transform_param { crop_sise: 3 }", "'crop_size'"),
    ],
)
def test_hints_are_given_where_they_help(text, hint):
    with pytest.raises(DialectError) as raised:
        convert_text(f"layer {{ {text} }}")
    assert ("Did you mean" in str(raised.value)) == bool(hint) and hint in str(raised.value)


def test_types_that_nobody_knows_are_told():
    told = []
    text = 'layer { name: "a" type: "ReLU" }\nlayer { name: "b" type: "WeightedSoftmaxWithLoss" }'
    assert convert_text(text, "net.prototxt", told.append) == text
    assert told == ["net.prototxt:2: layer 'b' has type 'WeightedSoftmaxWithLoss', which this Caffe does not know"]


def test_what_has_no_effect_is_told():
    told = []
    text = 'layer { name: "x" type: "ImageSegData" image_data_param { source: "l" mirror: true } }'
    layer = layers(convert_text(text, warn=told.append))["x"]
    assert parameters(layer) == {"source": "l"} and list(layer.top) == ["x"]
    assert len(told) == 1 and "image_data_param.mirror has no effect" in told[0]
    quiet = 'layer { name: "b" type: "BatchNorm" batch_norm_param { update_global_stats: false eps: 0.5 } }'
    found = layers(convert_text(quiet))["b"]
    assert found.batch_norm_param == caffe_pb2.BatchNormParameter(eps=0.5)


# --- the command -----------------------------------------------------------------------------------------------------


def run(*arguments, status=0, cwd=None):
    command = [sys.executable, "-m", "rloss_caffe", "convert", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def test_command(root):
    out, _ = run(root / "fork.prototxt")
    assert out == convert_text((root / "fork.prototxt").read_text())
    run(root / "fork.prototxt", root / "stock.prototxt")
    assert (root / "stock.prototxt").read_text() == out
    assert run(root / "stock.prototxt")[0] == out


def test_nothing_is_half_written(root):
    (root / "bad.prototxt").write_text('layer { name: "w" type: "MatWrite" }')
    before = sorted(os.listdir(root))
    _, error = run(root / "bad.prototxt", root / "out.prototxt", status=1)
    assert f"{root}/bad.prototxt:1: layer 'w' of type MatWrite" in error and "Traceback" not in error
    _, error = run(root / "fork.prototxt", root / "fork.prototxt", status=1)
    assert "this is an input" in error
    _, error = run(root / "none.prototxt", root / "out.prototxt", status=1)
    assert "cannot read" in error
    _, error = run(root / "fork.prototxt", root / "none" / "out.prototxt", status=1)
    assert f"cannot write {root}/none/out.prototxt: No such file or directory" in error
    assert sorted(os.listdir(root)) == before


SOLVER = 'base_lr: 0.001 lr_policy: "fixed" max_iter: 3 momentum: 0.9 random_seed: 1 average_loss: 2 snapshot: 0 '


def test_solvers_are_followed(root):
    (root / "solver.prototxt").write_text(SOLVER + 'train_net: "fork.prototxt" snapshot_prefix: "s"')
    (root / "out").mkdir()
    _, told = run(root / "solver.prototxt", root / "out" / "solver.prototxt")
    net = root / "out" / "fork_stock.prototxt"
    assert f"wrote {net}" in told
    assert net.read_text() == convert_text((root / "fork.prototxt").read_text())
    solver = text_format.Parse((root / "out" / "solver.prototxt").read_text(), caffe_pb2.SolverParameter())
    assert solver.train_net == str(net) and solver.snapshot_prefix == "s" and solver.average_loss == 2
    (root / "later.prototxt").write_text(SOLVER + 'train_net: "${EXP}/train.prototxt"')
    out, told = run(root / "later.prototxt")
    assert out == (root / "later.prototxt").read_text() and "cannot be followed" in told
    text = (root / "fork.prototxt").read_text()
    (root / "inline.prototxt").write_text(SOLVER + f"train_net_param {{\n{text}\n}}")
    out, _ = run(root / "inline.prototxt")
    assert len(text_format.Parse(out, caffe_pb2.SolverParameter()).train_net_param.layer) == 9
    assert out.startswith(SOLVER) and "# layer { a comment" in out


def test_no_input_is_written_over(root):
    """The nets beside the result have names of their own; a result that is an input is refused."""
    fork = (root / "fork.prototxt").read_text()
    (root / "out").mkdir()
    (root / "out" / "fork_stock.prototxt").write_text(fork)
    (root / "solver.prototxt").write_text(SOLVER + 'train_net: "fork.prototxt" test_net: "out/fork_stock.prototxt"')
    before = {path: path.read_text() for path in root.rglob("*.prototxt")}
    for target in ("fork.prototxt", "out/../out/fork_stock.prototxt", "solver.prototxt"):
        _, error = run("solver.prototxt", target, status=1, cwd=root)
        assert f"{target}: this is an input" in error
    assert {path: path.read_text() for path in root.rglob("*.prototxt")} == before
    run("solver.prototxt", "out/fork_stock_.prototxt", cwd=root)
    assert all(path.read_text() == text for path, text in before.items())
    solver = text_format.Parse((root / "out" / "fork_stock_.prototxt").read_text(), caffe_pb2.SolverParameter())
    names = [solver.train_net, *solver.test_net]
    assert not {"out/fork_stock.prototxt", "out/fork_stock_.prototxt"} & set(names)
    for name in names:
        assert (root / name).read_text() == convert_text(fork)


# --- live ------------------------------------------------------------------------------------------------------------


def test_net(root):
    caffe.set_mode_cpu()
    with open(root / "fork.prototxt", "a") as file:
        file.write("# ${LATER}\nforce_backward: false # ${EXP}")  # comments may say what they like
    net = rloss_caffe.Net(str(root / "fork.prototxt"), caffe.TRAIN)
    assert isinstance(net, caffe.Net)
    out = net.forward()  # with anonymous loss tops this is an IndexError
    assert out["densecrf_loss"] < 0 < out["loss"] == out["loss2"]
    net.backward()
    assert net.params["score"][0].diff.any() and net.blobs["prob"].diff.any()


def test_solver(root, monkeypatch):
    (root / "solver.prototxt").write_text(SOLVER + 'train_net: "fork.prototxt"')
    solver = rloss_caffe.get_solver(str(root / "solver.prototxt"))  # the net is found beside it
    assert isinstance(solver, caffe.SGDSolver)
    before = solver.net.params["score"][0].data.copy()
    solver.solve()
    assert solver.iter == 3 and not np.array_equal(before, solver.net.params["score"][0].data)
    assert (root / "solver_iter_3.caffemodel").exists()  # Caffe's default prefix


@pytest.mark.skipif(
    "weights" not in caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name, reason="this Caffe's solvers name no weights"
)
def test_weights_of_a_solver(root):
    net = rloss_caffe.Net(str(root / "fork.prototxt"), caffe.TRAIN)
    paths = [str(root / "zero.caffemodel"), str(root / "one.caffemodel")]
    for value, path in enumerate(paths):
        net.params["score"][1].data[...] = value
        net.save(path)
    (root / "s.prototxt").write_text(SOLVER + f'train_net: "fork.prototxt" weights: "{paths[0]}, {paths[1]}"')
    solver = rloss_caffe.get_solver(root / "s.prototxt")
    for blob, expected in zip(solver.net.params["score"], net.params["score"]):
        assert np.array_equal(blob.data, expected.data)
    os.unlink(paths[1])
    with pytest.raises(DialectError, match="no such file: .*one.caffemodel"):
        rloss_caffe.get_solver(root / "s.prototxt")


def test_what_would_end_the_process_is_an_error(root):
    unknown = "x.prototxt:2: layer 'x' has type 'Nonsense', which this Caffe does not know"
    cases = {
        'name: "n"\nlayer { name: "x" type: "Nonsense" }': unknown,
        'layer { name: "x" type: "Input" top: "${T}" }': r"\$\{T\} must be filled in first",
        "base_lr: 1": "expected a net, found a solver",
        "layer { nonsense: 1 }": "no field named",
    }
    for text, message in cases.items():
        (root / "x.prototxt").write_text(text)
        with pytest.raises(DialectError, match=message):
            rloss_caffe.Net(str(root / "x.prototxt"), caffe.TEST)
    with pytest.raises(DialectError, match="cannot read"):
        rloss_caffe.Net(str(root / "none.prototxt"), caffe.TEST)
    with pytest.raises(DialectError, match="no such file: none.caffemodel"):
        rloss_caffe.Net(str(root / "fork.prototxt"), "none.caffemodel", caffe.TRAIN)
    (root / "s.prototxt").write_text(SOLVER + 'train_net: "none.prototxt"')
    with pytest.raises(DialectError, match="cannot read none.prototxt"):
        rloss_caffe.get_solver(str(root / "s.prototxt"))
    for field in ("net_param", "train_net_param", "test_net_param"):
        (root / "s.prototxt").write_text(SOLVER + field + ' { layer { name: "x" type: "Nonsense" } }')
        with pytest.raises(DialectError, match="s.prototxt:1: layer 'x' has type 'Nonsense'"):
            rloss_caffe.get_solver(root / "s.prototxt")
    with pytest.raises(DialectError, match="expected a solver, found a net"):
        rloss_caffe.get_solver(str(root / "fork.prototxt"))


def test_train_command_takes_the_fork(root):
    (root / "solver.prototxt").write_text(SOLVER + 'train_net: "fork.prototxt" snapshot_prefix: "s" display: 1')
    command = [sys.executable, "-m", "rloss_caffe", "train", "--solver=solver.prototxt"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=dict(os.environ, GLOG_minloglevel="0"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        re.search(r"Train net output #\d: densecrf_loss = -", done.stderr) and (root / "s_iter_3.caffemodel").exists()
    )


def test_read_net(root):
    assert len(read_net(root / "fork.prototxt").layer) == 9


def test_two_runs_log_the_same_names(root):
    """Readers of logs tell trainings apart by their nets; a copy in a random folder would make two of one."""
    (root / "nets").mkdir()
    (root / "fork.prototxt").rename(root / "nets" / "fork.prototxt")
    (root / "solver.prototxt").write_text(SOLVER + 'train_net: "nets/fork.prototxt" snapshot_prefix: "s" ')
    code = "import rloss_caffe; rloss_caffe.get_solver('solver.prototxt')"
    lines = []
    for _ in range(2):
        log = dict(os.environ, GLOG_minloglevel="0")
        done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, env=log)
        assert done.returncode == 0, done.stderr[-2000:]
        lines.append(re.findall(r'(?:train_net: "|train_net file: )(.*?)"?\n', done.stderr))
    assert lines[0] == lines[1] and len(lines[0]) == 2
    if os.path.isdir("/proc/self/fd"):
        assert set(lines[0]) == {f"{COPY_PREFIX}nets/fork.prototxt"}


# --- weights ---------------------------------------------------------------------------------------------------------


def wire(number, value):
    """A field as protobuf writes it: bytes and text with their length, whole numbers, floats, messages from dicts."""
    if isinstance(value, dict):
        value = b"".join(wire(*item) for item in value.items())
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value % 2**64)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    head, rest = value & 127, value >> 7
    return bytes([head | 128]) + varint(rest) if rest else bytes([head])


# The fork's layer parameters at the fork's numbers, most of which are stock Caffe's for something else.
FORK_PARAMETERS = {
    "Interp": {143: {1: 41, 2: 41, 3: 8, 4: 1, 5: -1, 6: 0}},
    "SegAccuracy": {144: {1: 2, 2: 255, 3: 0}},
    "MatWrite": {145: {1: b"features/fc8", 2: b"list.txt", 3: 0, 4: 1}},  # nonsense to stock Caffe
    "DenseCRF": {146: {1: 10, 2: 3.0, 3: 3.0, 4: 50.0, 5: 10.0, 6: 5.0, 7: 1}},
    "DomainTransform": {147: {1: 3, 2: 50.0, 3: 5.0, 4: 0.0}},
    "AdaptiveBiasChannel": {148: {1: 1}},
    "BiasChannel": {149: {1: 1}},
    "UniqueLabel": {150: {1: 20, 2: 255, 3: 1.0}},
    "MatRead": {151: {1: b"fc8", 4: 1}},
    "DenseCRFLoss": {152: {1: 100.0, 2: 15.0}},
}


@pytest.mark.parametrize("kinds", [[kind] for kind in FORK_PARAMETERS] + [list(FORK_PARAMETERS)], ids="+".join)
def test_weights_written_by_the_fork_load(root, kinds):
    weights = np.random.RandomState(0).randn(16, 3, 3, 3).astype(np.float32)
    layer = caffe_pb2.LayerParameter(name="score", type="Convolution")
    for array in (weights, np.arange(16, dtype=np.float32)):
        blob = layer.blobs.add()
        blob.shape.dim.extend(array.shape)
        blob.data.extend(array.ravel().tolist())
    path = str(root / "fork.caffemodel")
    with open(path, "wb") as file:
        for kind in kinds:
            file.write(wire(100, {1: kind.lower().encode(), 2: kind.encode(), **FORK_PARAMETERS[kind]}))
        file.write(wire(100, layer.SerializeToString()))
    caffe.set_mode_cpu()
    for net in (
        rloss_caffe.Net(str(root / "fork.prototxt"), caffe.TRAIN, weights=path),
        rloss_caffe.Net(str(root / "fork.prototxt"), path, caffe.TRAIN),
    ):
        assert np.array_equal(net.params["score"][0].data, weights)
        assert np.array_equal(net.params["score"][1].data, np.arange(16))


def test_weights_that_would_end_the_process_are_an_error(root):
    path = root / "bad.caffemodel"
    path.write_bytes(b"\xff\xff no weights")
    with pytest.raises(ValueError, match="bad.caffemodel is no binary NetParameter"):
        rloss_caffe.Net(str(root / "fork.prototxt"), caffe.TRAIN, weights=str(path))
    layer = caffe_pb2.LayerParameter(name="score")
    layer.blobs.add(data=[1]).shape.dim.append(1)
    path.write_bytes(wire(100, layer.SerializeToString()))
    with pytest.raises(ValueError, match="layer 'score' has blobs of shape 16 x 3 x 3 x 3, 16 in the net and 1 in"):
        rloss_caffe.Net(str(root / "fork.prototxt"), path, caffe.TRAIN)


def test_the_package_stays_quick_and_free_of_caffe():
    code = "import sys, rloss_caffe; assert not {'caffe', 'numba', 'google.protobuf'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
