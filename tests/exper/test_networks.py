"""The experiments' prototxts: up to date, equal to the original's tables, alive in real Caffe."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from helpers.paths import ROOT, shared_path

caffe = pytest.importorskip("caffe", reason="networks are generated with pycaffe's schema and run in pycaffe")

from caffe.proto import caffe_pb2  # noqa: E402
from google.protobuf import text_format  # noqa: E402

from rloss_caffe.data.samples import MEAN_BGR  # noqa: E402
from rloss_caffe.layers.seg_accuracy import confusion_matrices  # noqa: E402

CONFIG = ROOT / "exper" / "pascal_scribble" / "config"
ORIGINAL = ["deeplab_largeFOV", "deeplab_msc_largeFOV", "deeplab_vgg16", "resnet-101"]
FILES = ["train", "trainwithdensecrfloss", "test"]
LOSSES = ["densecrf", "normalized_cut", "kernel_cut", "local_potts", "self_label", "none"]
PARAMETERS = {  # numbers of weights with 21 labels
    "deeplab_largeFOV": 20505429,
    "deeplab_msc_largeFOV": 21711550,
    "deeplab_vgg16": 37877652,
    "resnet-101": 44153980,
    "deeplab_squeezenet": 1911469,
    "quickstart": 54549,
}


# --- up to date ------------------------------------------------------------------------------------------------------


SCRIPT = ROOT / "exper" / "generate_networks.py"


def train_file(loss):
    """The net of phase two."""
    return f"trainwith{'no' if loss == 'none' else loss.replace('_', '')}loss"


ON_DEMAND = [
    f"{network}/{name}.prototxt"
    for network in ("resnet-101", "quickstart")
    for name in ("test", "train", *map(train_file, LOSSES))
]


def generate(*words, status=0, python=(sys.executable,)):
    """Run the script; what it prints."""
    done = subprocess.run([*python, str(SCRIPT), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stderr if status == 2 else done.stdout


def below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.prototxt")}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """All files of all networks, those that are not committed as well."""
    folder = tmp_path_factory.mktemp("config")
    generate(*PARAMETERS, "--output", folder)
    return folder


def test_the_files_are_what_the_script_writes():
    assert generate("--check") == ""


def test_check_notices_a_change(tmp_path):
    folder = ("--output", tmp_path)
    missing = generate("--check", *folder, status=1)
    assert not list(tmp_path.iterdir())
    written = generate(*folder)
    assert written == missing.replace("out of date:", "wrote")
    assert len(written.splitlines()) == len(below(tmp_path))
    assert generate("--check", *folder) == ""
    changed = tmp_path / "resnet-101" / "solver.prototxt"
    changed.write_text(changed.read_text().replace("0.9", "0.8"))
    assert generate("--check", *folder, status=1) == f"out of date: {changed}\n"


def test_some_files_are_written_on_demand_and_kept_up_to_date(tmp_path, config):
    folder = ("--output", tmp_path)
    generate(*folder)
    assert below(config) - below(tmp_path) == set(ON_DEMAND)
    assert max(len(path.read_text().splitlines()) for path in tmp_path.rglob("*.prototxt")) < 2000
    (tmp_path / ON_DEMAND[0]).write_text("of an older version")
    assert generate(*folder) == f"wrote {tmp_path / ON_DEMAND[0]}\n"
    assert generate(*folder, ON_DEMAND[1], "resnet-101/test") == f"wrote {tmp_path / ON_DEMAND[1]}\n"
    generate(*folder, "resnet-101", "quickstart")
    assert below(tmp_path) == below(config)


def test_each_network_has_a_solver_and_a_net_of_each_phase_and_loss(config):
    phases = ["train", *map(train_file, LOSSES)]
    files = ["test", *phases, *(name.replace("train", "solver") for name in phases)]
    assert below(config) == {f"{network}/{name}.prototxt" for network in PARAMETERS for name in files}
    for network in PARAMETERS:
        for name in phases:
            solver = (config / network / f"{name.replace('train', 'solver')}.prototxt").read_text()
            assert f"/{name}_${{TRAIN_SET}}.prototxt" in solver
            assert f'snapshot_prefix: "${{EXP}}/model/${{NET_ID}}/{name}"' in solver  # none overwrites another's
            as_densecrf = solver.replace(name, "trainwithdensecrfloss")
            expected = (config / network / "solverwithdensecrfloss.prototxt").read_text()
            assert (as_densecrf == expected) == (name != "train")


def test_the_run_script_knows_the_same_losses():
    assert f'\nLOSSES="{" ".join(LOSSES)}"\n' in (ROOT / "exper" / "run_pascal_scribble.sh").read_text()


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path):
    folder = ("--output", tmp_path)
    assert "no resnet; there are: deeplab_largeFOV" in generate("resnet", *folder, status=2)
    assert "no resnet-101/trian; there are: test train solver" in generate("resnet-101/trian", *folder, status=2)
    assert not list(tmp_path.iterdir())


def test_the_script_needs_no_package(tmp_path, config):
    """It runs wherever Python does: run_pascal_scribble.sh calls it where CAFFE_BIN is the only Caffe."""
    generate("deeplab_squeezenet", "--output", tmp_path, python=(sys.executable, "-E", "-S"))
    name = "deeplab_squeezenet/train.prototxt"
    assert (tmp_path / name).read_text() == (config / name).read_text()


def test_the_mean_colour_is_the_data_layers(config):
    (data,) = [layer for layer in read_net(config / "deeplab_vgg16" / "train.prototxt").layer if layer.name == "data"]
    assert tuple(yaml.safe_load(data.python_param.param_str)["mean_value"]) == MEAN_BGR


# --- equal to the original -------------------------------------------------------------------------------------------


def parse_cell(text):
    """``{a:[1.0,{b:${X}/c}]}`` of the tables as dicts and lists; numbers as float32, true and false as bool."""
    text = re.sub(r"\$\{(\w+)\}", r"$<\1>", text)
    text = re.sub(r"[^{}\[\],:]+", lambda match: json.dumps(match.group()), text)
    return canonical(json.loads(text))


def canonical(value):
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, str):
        if value in ("true", "false"):
            return value == "true"
        try:
            return np.float32(value)
        except ValueError:
            return re.sub(r"\$<(\w+)>", r"${\1}", value)
    return value if isinstance(value, bool) else np.float32(value)


def read_table(path):
    """The layers of a table: (name, type, bottoms, tops, fields)."""
    rows = path.read_text().splitlines()
    assert rows[0] == "name: ${NET_ID}"
    for row in rows[1:]:
        name, kind, blobs, fields = row.split(" | ", 3)
        bottoms, tops = [[blob for blob in side.strip().split(",") if blob] for side in blobs.split("->")]
        yield name, kind, bottoms, tops, parse_cell(fields)


def set_fields(message):
    """The fields of a message that are set, as the tables have them."""
    fields = {}
    for field, value in message.ListFields():
        if field.enum_type:
            value = field.enum_type.values_by_number[value].name
        elif field.message_type and field.label == field.LABEL_REPEATED:
            value = [set_fields(item) for item in value]
        elif field.message_type:
            value = set_fields(value)
        elif field.label == field.LABEL_REPEATED:
            value = list(value)
        fields[field.name] = value
    return fields


TRANSFORM = {"mirror", "crop_size", "mean_value", "scale_factors"}


def as_fork(layer):
    """A Python layer's parameters in the messages of the fork's schema."""
    parameters = yaml.safe_load(layer.param_str)
    if layer.layer == "ImageSegData":
        transform = {key: value for key, value in parameters.items() if key in TRANSFORM}
        rest = {key: value for key, value in parameters.items() if key not in TRANSFORM}
        return {"transform_param": transform, "image_data_param": rest}
    if layer.layer == "SegAccuracy":
        parameters["ignore_label"] = [parameters["ignore_label"]]
    messages = {"Interp": "interp_param", "SegAccuracy": "seg_accuracy_param", "DenseCRFLoss": "densecrf_loss_param"}
    return {messages[layer.layer]: parameters}


def read_net(path):
    text = path.read_text().replace("num_output: ${NUM_LABELS}", "num_output: 21")
    text = text.replace("loss_weight: ${DENSECRF_LOSS_WEIGHT}", "loss_weight: 1e-08")
    return text_format.Parse(text, caffe_pb2.NetParameter())


def read_layers(path):
    """The layers of a prototxt as `read_table` gives them, the Python layers translated into the fork's."""
    for layer in read_net(path).layer:
        fields = set_fields(layer)
        name, kind = fields.pop("name"), fields.pop("type")
        bottoms, tops = fields.pop("bottom", []), fields.pop("top", [])
        if kind == "Python":
            assert fields.pop("python_param")["module"] == "rloss_caffe.layers"
            kind = layer.python_param.layer
            fields.update(as_fork(layer.python_param))
        yield name, kind, bottoms, tops, canonical(fields)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("network", ORIGINAL)
def test_every_field_is_the_originals(network, file, config):
    table = list(read_table(shared_path(f"facts/nets/{network}__{file}.txt")))
    path = config / network / f"{file}.prototxt"
    assert read_net(path).name == "${NET_ID}"
    found = list(read_layers(path))
    assert [row[0] for row in found] == [row[0] for row in table]
    for row, (name, kind, bottoms, tops, fields) in zip(found, table):
        if kind == "SoftmaxWithLoss" and not tops:
            tops = [name]  # the one deliberate difference
        assert row == (name, kind, bottoms, tops, fields)


def test_solvers_are_the_originals():
    rows = shared_path("facts/nets/solvers.txt").read_text().splitlines()
    assert len(rows) == 8
    for row in rows:
        name, fields = row.split(": ", 1)
        expected = text_format.Parse(fields.replace(" | ", "\n"), caffe_pb2.SolverParameter())
        found = text_format.Parse((CONFIG / f"{name}.prototxt").read_text(), caffe_pb2.SolverParameter())
        assert found == expected, name


def test_placeholders_are_those_of_the_run_script(config):
    known = {"EXP", "NET_ID", "NUM_LABELS", "DATA_ROOT", "TRAIN_SET", "TEST_SET", "DENSECRF_LOSS_WEIGHT"}
    found = {name for path in config.rglob("*.prototxt") for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert found == known
    for path in config.rglob("test.prototxt"):
        assert "${TRAIN_SET}" not in path.read_text()


# --- alive in Caffe --------------------------------------------------------------------------------------------------

CROP = 65  # 32 k + 1, so that the three scales of resnet-101 meet


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Two small photos with scribbles on disk, and their list where the networks look for it."""
    cv2 = pytest.importorskip("cv2", reason="writes the test images")
    root = tmp_path_factory.mktemp("networks")
    (root / "pascal_scribble" / "list").mkdir(parents=True)
    random = np.random.RandomState(0)
    lines = []
    for index, (height, width) in enumerate([(70, 90), (50, 66)]):  # one is cropped, one is padded
        image = cv2.resize(random.randint(0, 256, (8, 10, 3)).astype(np.uint8), (width, height))
        label = np.full((height, width), 255, np.uint8)
        label[8:40:8, :], label[:, 24] = 15, 0
        cv2.imwrite(str(root / f"{index}.png"), image)
        cv2.imwrite(str(root / f"{index}_label.png"), label)
        lines.append(f"{index}.png {index}_label.png\n")
    for name in ("train", "val"):
        (root / "pascal_scribble" / "list" / f"{name}.txt").write_text("".join(lines))
    return root


def fill_in(text, data_root, crop=CROP):
    values = {
        "EXP": "pascal_scribble",
        "NET_ID": "net",
        "NUM_LABELS": "21",
        "DATA_ROOT": f"{data_root}/",
        "TRAIN_SET": "train",
        "TEST_SET": "val",
        "DENSECRF_LOSS_WEIGHT": "1e-8",
    }
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    text = re.sub(r"crop_size: \d+", f"crop_size: {crop}", text)
    return re.sub(r"batch_size: \d+", "batch_size: 2\\\\nprefetch: 0\\\\nseed: 1", text)


def load(path, data_root, monkeypatch, crop=CROP):
    text = fill_in(path.read_text(), data_root, crop)
    filled_in = data_root / f"{path.parent.name}_{path.name}"
    filled_in.write_text(text)
    monkeypatch.chdir(data_root)
    caffe.set_mode_cpu()
    return caffe.Net(str(filled_in), caffe.TEST if path.stem == "test" else caffe.TRAIN)


def owned(net):
    """The parameters without those that the smaller scales of resnet-101 share."""
    return {name: blobs for name, blobs in net.params.items() if not re.search("_res05|_res075", name)}


def randomise(net):
    """He's initialisation, neutral normalisation. Only owners are filled: what should share and does not stays 0."""
    random = np.random.default_rng(0)
    for name, blobs in owned(net).items():
        if blobs[0].data.ndim == 4:
            shape = blobs[0].data.shape
            blobs[0].data[...] = random.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.startswith("bn"):
            for blob, value in zip(blobs, (0, 1, 1)):
                blob.data[...] = value
        else:
            blobs[0].data[...], blobs[1].data[...] = 0.5, 0


SCORES = {"deeplab_msc_largeFOV": "fc_fusion", "resnet-101": "fc_fusion"}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("network", PARAMETERS)
def test_runs(network, file, config, data_root, monkeypatch):
    net = load(config / network / f"{file}.prototxt", data_root, monkeypatch)
    assert sum(blob.count for blobs in owned(net).values() for blob in blobs) == PARAMETERS[network]
    randomise(net)
    outputs = net.forward()
    assert all(np.isfinite(value).all() for value in outputs.values())
    scores = net.blobs[SCORES.get(network, "fc8_pascal_scribble")].data
    assert np.isfinite(scores).all() and scores.std(axis=(2, 3)).min() > 0
    if file == "test":
        full = {"resnet-101": "fc1_interp", "deeplab_msc_largeFOV": "fc_fusion"}.get(network, "fc8_interp")
        assert net.blobs[full].data.shape[2:] == (CROP, CROP)
        accuracy = outputs["fc1_accuracy" if network == "resnet-101" else "accuracy"]
        (confusion,) = confusion_matrices(net).values()
        assert confusion.counts.sum() == (net.blobs["label"].data != 255).sum() > 0
        expected = confusion.pixel_accuracy(), confusion.mean_recall(), confusion.mean_jaccard()
        assert np.allclose(accuracy, expected) and accuracy.shape == (1, 1, 1, 3)
        return
    assert scores.shape[2:] == ((17, 17) if network in ("deeplab_squeezenet", "quickstart") else (9, 9))
    losses = {name: float(value) for name, value in outputs.items() if "loss" in name and name != "densecrf_loss"}
    assert len(losses) == (4 if network == "resnet-101" else 1) and min(losses.values()) > 0
    net.backward()
    # msc trains only its five branches, squeezenet not its first layers
    first_and_last = [*net.params][:: len(net.params) - 1]
    special = {"deeplab_msc_largeFOV": ["data_conv", "pool4_ms"], "deeplab_squeezenet": ["fire5/squeeze1x1", "skip4"]}
    for name in special.get(network, first_and_last):
        gradient = net.params[name][0].diff
        assert np.isfinite(gradient).all() and gradient.any(), name
    if network == "deeplab_squeezenet":
        frozen = ["conv1", "conv10", *(name for name in net.params if name[:5] in ("fire2", "fire3", "fire4"))]
        assert len(frozen) == 11 and not any(blob.diff.any() for name in frozen for blob in net.params[name])
    if file == "trainwithdensecrfloss":
        assert float(outputs["densecrf_loss"]) < 0
        check_loss(net, "densecrf_loss")


def check_loss(net, name):
    """It has a value, and a gradient that reaches the probabilities."""
    assert net.blobs[name].data.any()
    gradient = net.blobs[net.bottom_names[name][1]].diff
    assert np.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", PARAMETERS)
def test_each_loss_fits_each_network(network, loss, config, data_root, monkeypatch):
    """Every net is built; the small one runs, forward and backward."""
    net = load(config / network / f"{train_file(loss)}.prototxt", data_root, monkeypatch)
    layers = {layer.name: layer for layer in read_net(config / network / f"{train_file(loss)}.prototxt").layer}
    assert (f"{loss}_loss" in layers) == (loss != "none") == (f"{loss}_loss" in net.blobs)
    if loss != "none":
        image, probabilities, *labels = [net.blobs[name].shape for name in layers[f"{loss}_loss"].bottom]
        assert image[1] == 3 and probabilities[1] == 21 and [shape[1] for shape in labels] == [1] * len(labels)
        assert {(shape[0], *shape[2:]) for shape in (image, probabilities, *labels)} == {(2, *image[2:])}
    if network == "deeplab_squeezenet":
        randomise(net)
        net.forward()
        net.backward()
        if loss != "none":
            check_loss(net, f"{loss}_loss")


# --- deeplab_squeezenet ----------------------------------------------------------------------------------------------


def squeezenet_trunk(size):
    """The network's layers up to its features, on an input of `size`, as a prototxt."""
    net = read_net(CONFIG / "deeplab_squeezenet" / "test.prototxt")
    names = [layer.name for layer in net.layer]
    shape = {"shape": [{"dim": [1, 3, size, size]}]}
    data = caffe_pb2.LayerParameter(name="data", type="Input", top=["data"], input_param=shape)
    return caffe_pb2.NetParameter(layer=[data, *net.layer[1 : names.index("scale9")]])


@pytest.mark.parametrize("size, features", [(65, 9), (321, 41), (513, 65)])
def test_squeezenet_has_stride_8(size, features, tmp_path):
    path = tmp_path / "trunk.prototxt"
    path.write_text(text_format.MessageToString(squeezenet_trunk(size)))
    net = caffe.Net(str(path), caffe.TEST)
    assert net.blobs["fire9/concat"].data.shape == (1, 512, features, features)


def test_squeezenet_features_are_the_releases(tmp_path):
    """The public weights give the released network's features, and feature i is that of pixel 8 i.

    The release's feature n, at stride 16 and without padding, looks at its pixel 16 n + 17. On the same photo
    without its first 15 rows and columns this is pixel 16 n + 32: our feature 2 n + 4.
    """
    cv2 = pytest.importorskip("cv2", reason="reads the photo")
    weights = str(shared_path("voc_mini/squeezenet_v1.0.caffemodel"))
    photo = sorted(shared_path("voc_mini/JPEGImages").glob("*.jpg"))[0]
    image = cv2.resize(cv2.imread(str(photo)), (321, 321)).astype(np.float32) - [104.008, 116.669, 122.675]
    image = image.transpose(2, 0, 1)[None]
    path = tmp_path / "trunk.prototxt"
    path.write_text(text_format.MessageToString(squeezenet_trunk(321)))
    ours = caffe.Net(str(path), weights, caffe.TEST)
    release = caffe.Net(str(shared_path("voc_mini/squeezenet_v1.0_deploy.prototxt")), weights, caffe.TEST)
    for name in ours.params:
        assert np.array_equal(ours.params[name][0].data, release.params[name][0].data), name
    ours.blobs["data"].data[...] = image
    ours.forward()
    release.blobs["data"].data[...] = image[:, :, 15:242, 15:242]
    release.forward(end="fire9/concat")
    found, expected = ours.blobs["fire9/concat"].data[0, :, 4::2, 4::2], release.blobs["fire9/concat"].data[0]
    inner = (slice(None), slice(5, 8), slice(5, 8))  # further out, the release's zero padding shows
    assert expected[inner].max() > 1
    assert np.allclose(found[:, :13, :13][inner], expected[inner], rtol=1e-4, atol=1e-3)


def test_squeezenet_sees_the_whole_image(tmp_path):
    """A change in one corner reaches the classifier everywhere, as the same bias of a channel."""
    net = read_net(CONFIG / "deeplab_squeezenet" / "test.prototxt")
    names = [layer.name for layer in net.layer]
    shape = {"shape": [{"dim": [2, 3, 65, 65]}]}
    data = caffe_pb2.LayerParameter(name="data", type="Input", top=["data"], input_param=shape)
    path = tmp_path / "net.prototxt"
    layers = [data, *net.layer[1 : names.index("fc6_context") + 1]]
    path.write_text(text_format.MessageToString(caffe_pb2.NetParameter(layer=layers)))
    net = caffe.Net(str(path), caffe.TEST)
    randomise(net)
    net.blobs["data"].data[...] = 50
    net.blobs["data"].data[1, :, :20, :20] = -80
    net.forward()
    context = net.blobs["fc6_context"].data - net.blobs["fc6"].data
    assert np.allclose(context, context[:, :, :1, :1], atol=1e-4 * np.abs(context).max())
    assert not np.allclose(context[0], context[1], rtol=0.01)
