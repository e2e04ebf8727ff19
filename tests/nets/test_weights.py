"""Weights and snapshots: what would end the process in Caffe is an error here, and truncated files are found out."""

import os
import random

import numpy as np
import pytest

caffe = pytest.importorskip("caffe", reason="weights are checked against real nets and solvers")

from caffe.proto import caffe_pb2  # noqa: E402
from helpers.children import in_child  # noqa: E402
from helpers.small_solvers import SMALL_NET, SOLVER_TYPES, small_solver  # noqa: E402

import rloss_caffe  # noqa: E402
from rloss_caffe.nets import check_snapshot, check_solverstate, is_whole, load_weights  # noqa: E402
from rloss_caffe.nets.schema import stored_messages  # noqa: E402


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a snapshot of each type of solver; what the solver was comes back by `small_solver`."""
    folder = tmp_path_factory.mktemp("saved")
    for kind in SOLVER_TYPES:
        small_solver(folder, kind).snapshot()
    return folder


def state_of(folder, kind):
    return f"{folder}/{kind}_iter_2.solverstate"


def model_of(folder, kind="SGD"):
    return f"{folder}/{kind}_iter_2.caffemodel"


def small_net(folder):
    (folder / "small.prototxt").write_text(SMALL_NET)
    return caffe.Net(str(folder / "small.prototxt"), caffe.TEST)


def parsed(kind, path):
    message = getattr(caffe_pb2, kind)()
    with open(path, "rb") as file:
        message.ParseFromString(file.read())
    return message


def written(message, path):
    with open(path, "wb") as file:
        file.write(message.SerializePartialToString())
    return str(path)


def ends_in_caffe(function, *arguments):
    """Whether real Caffe ends the process for what we refuse: so that no check is stricter than it needs to be."""
    return in_child(lambda: function(*map(str, arguments)))[0]


# --- truncated files -------------------------------------------------------------------------------------------------


def test_a_pair_cut_at_any_byte_is_not_whole(saved, tmp_path):
    """Every length of a state and of weights, with the other file as it was."""
    model, state = model_of(saved), state_of(saved, "SGD")
    assert is_whole(state) and is_whole(model)
    both = parsed("SolverState", state)
    cut_model, cut_state = tmp_path / "cut.caffemodel", tmp_path / "cut.solverstate"
    both.learned_net = str(cut_model)
    with open(model, "rb") as file:
        content = file.read()
    cut_model.write_bytes(content)
    written(both, cut_state)
    whole_state = cut_state.read_bytes()
    assert is_whole(cut_state)
    for length in range(len(whole_state)):
        cut_state.write_bytes(whole_state[:length])
        assert not is_whole(cut_state), f"state of {length} of {len(whole_state)} bytes"
    cut_state.write_bytes(whole_state)
    layers = stored_messages()["NetParameter"].FromString(content).layer
    weights = [layer for layer in layers if layer.blobs and layer.name != "third"]  # which are the second's
    whole = []
    for length in range(len(content)):
        cut_model.write_bytes(content[:length])
        if is_whole(cut_state):  # what comes behind the last weights may be missing: nothing is lost
            whole.append(length)
            cut = stored_messages()["NetParameter"].FromString(content[:length])
            assert [layer for layer in cut.layer if layer.blobs and layer.name != "third"] == weights
    assert len(whole) < 10


def test_a_larger_file_cut_anywhere(tmp_path):
    """Random lengths of weights of 400 kB: whole only if no weight is missing."""
    text = SMALL_NET.replace("dim: 3 }", "dim: 50000 }")
    (tmp_path / "large.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "large.prototxt"), caffe.TEST)
    net.save(str(tmp_path / "large.caffemodel"))
    content = (tmp_path / "large.caffemodel").read_bytes()
    rng, path = random.Random(0), tmp_path / "cut.caffemodel"
    for _ in range(150):
        length = rng.randrange(len(content))
        path.write_bytes(content[:length])
        if is_whole(path):  # at the end of a layer: the net finds out what is missing
            found = load_weights(net, path, warn=lambda _: None)
            message = stored_messages()["NetParameter"].FromString(content[:length])
            assert found == {layer.name for layer in message.layer if layer.blobs}


@pytest.mark.parametrize("content", [b"", b"\x00", b"\xff" * 100, b"name: 'text'"], ids=["empty", "0", "ff", "text"])
def test_what_is_no_weights_is_refused_wherever_weights_are_taken(tmp_path, saved, content):
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    net = small_net(tmp_path)
    solver = tmp_path / "solver.prototxt"
    solver.write_text(f'net: "{tmp_path}/small.prototxt" base_lr: 1 lr_policy: "fixed" weights: "{path}"')
    for take in (
        lambda: load_weights(net, str(path)),
        lambda: rloss_caffe.Net(tmp_path / "small.prototxt", str(path), caffe.TEST),
        lambda: rloss_caffe.Net(tmp_path / "small.prototxt", caffe.TEST, weights=str(path)),
        lambda: rloss_caffe.get_solver(solver),
        lambda: check_snapshot(path),
    ):
        with pytest.raises(ValueError, match=r"bad\.caffemodel (is|holds) .*(empty|no binary|no weights)"):
            take()


def test_hdf5_files_are_measured(tmp_path):
    net = small_net(tmp_path)
    path = tmp_path / "net.caffemodel.h5"
    net.save_hdf5(str(path))
    content = path.read_bytes()
    load_weights(net, str(path))
    assert is_whole(path)
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="empty|no HDF5 file|truncated"):
            load_weights(net, str(path))
        assert not is_whole(path)


def test_a_state_in_hdf5_needs_its_weights(tmp_path):
    solver = small_solver(tmp_path, more="snapshot_format: HDF5")
    solver.snapshot()
    state = f"{tmp_path}/SGD_iter_2.solverstate.h5"
    check_solverstate(state, solver)
    solver.restore(state)
    os.truncate(f"{tmp_path}/SGD_iter_2.caffemodel.h5", 500)
    with pytest.raises(ValueError, match=r"SGD_iter_2\.caffemodel\.h5 is truncated: it has 500 of \d+ bytes"):
        check_solverstate(state, solver)


def test_hdf5_weights_that_do_not_fit(tmp_path):
    pytest.importorskip("h5py", reason="without h5py only the length of HDF5 files is looked at")
    net = small_net(tmp_path)
    net.save_hdf5(str(tmp_path / "net.h5"))
    assert load_weights(net, str(tmp_path / "net.h5")) == {"first", "norm", "second", "third"}
    (tmp_path / "other.prototxt").write_text(SMALL_NET.replace("dim: 3 }", "dim: 4 }"))
    other = caffe.Net(str(tmp_path / "other.prototxt"), caffe.TEST)
    with pytest.raises(ValueError, match="layer 'first' has blobs of shape 2 x 4, 2 in the net and 2 x 3, 2 in"):
        load_weights(other, str(tmp_path / "net.h5"))


# --- weights that do not fit -----------------------------------------------------------------------------------------


def load(net, weights):
    caffe.Net(net, caffe.TEST).copy_from(weights)


def damage(name):
    """Weights of the small net with something wrong in them, and what the message says."""

    def change(net):
        first = net.layer[1]
        if name == "values missing":
            del first.blobs[0].data[2:]
        elif name == "values too many":
            first.blobs[0].data.append(1)
        elif name == "double values missing":
            first.blobs[0].double_data.append(1)
        elif name == "differences missing":
            first.blobs[0].diff.append(1)
        elif name == "blob missing":
            del first.blobs[1]
        elif name == "blobs missing":
            del first.blobs[:]
        elif name == "blobs of a layer that has none":
            net.layer[-1].blobs.add(data=[1.0]).shape.dim.append(1)
        elif name == "other shape":
            first.blobs[0].shape.dim[:] = [3, 2]
        elif name == "negative shape":
            first.blobs[0].shape.dim[:] = [-2, -3]
        elif name == "four axes":
            first.blobs[0].num = 6

    return change


@pytest.mark.parametrize(
    "name, message",
    [
        ("values missing", "blob 0 of layer 'first' of shape 2 x 3 has 2 values"),
        ("values too many", "blob 0 of layer 'first' of shape 2 x 3 has 7 values"),
        ("double values missing", "blob 0 of layer 'first' of shape 2 x 3 has 1 values"),
        ("differences missing", "blob 0 of layer 'first' of shape 2 x 3"),
        ("blob missing", "layer 'first' has blobs of shape 2 x 3, 2 in the net and 2 x 3 in the file"),
        ("blobs missing", "layer 'first' has blobs of shape 2 x 3, 2 in the net and none in the file"),
        ("blobs of a layer that has none", "layer 'loss' has blobs of shape none in the net and 1 in the file"),
        ("other shape", "layer 'first' has blobs of shape 2 x 3, 2 in the net and 3 x 2, 2 in the file"),
        ("negative shape", "blob 0 of layer 'first' of shape -2 x -3 has 6 values"),
        ("four axes", "blob 0 of layer 'first' of shape 6 x 0 x 0 x 0 has 6 values"),
    ],
)
def test_damaged_weights(tmp_path, saved, name, message):
    net = parsed("NetParameter", model_of(saved))
    damage(name)(net)
    path = written(net, tmp_path / "damaged.caffemodel")
    with pytest.raises(ValueError, match=message):
        load_weights(small_net(tmp_path), path)
    assert ends_in_caffe(load, tmp_path / "small.prototxt", path)


@pytest.mark.parametrize("form", ["both forms", "oldest form", "input without sizes", "incomplete"])
def test_files_that_caffe_cannot_upgrade_load(tmp_path, saved, form):
    """What Caffe would do to bring an old file up to date ends the process; the weights are taken all the same."""
    net = parsed("NetParameter", model_of(saved))
    if form == "both forms":
        net.layers.add(name="old")
    elif form == "oldest form":
        for layer in net.layer:
            net.layers.add(name=layer.name, blobs=layer.blobs).layer.type = "nonsense"
        del net.layer[:]
    elif form == "input without sizes":
        net.input.append("data")
        net.input_dim.append(1)
    path = written(net, tmp_path / "old.caffemodel")
    if form == "incomplete":
        with open(path, "ab") as file:
            file.write(b"\xa2\x06\x08\x0a\x01x\xa2\x09\x02\x0d\x00")  # a cut clip_param, say: Debian's 148 is a message
    small = small_net(tmp_path)
    for blob in small.params["first"]:
        blob.data[...] = 7
    assert load_weights(small, path) == {"first", "norm", "second", "third"}
    saved_first = net.layer[1] if net.layer else net.layers[1]
    assert np.array_equal(small.params["first"][0].data.ravel(), np.float32(saved_first.blobs[0].data))


def test_weights_that_are_not_finite_are_told(tmp_path, saved):
    net = small_net(tmp_path)
    net.params["second"][0].data[0, 0] = np.nan
    net.save(str(tmp_path / "nan.caffemodel"))
    net.save_hdf5(str(tmp_path / "nan.h5"))
    for name in ("nan.caffemodel", "nan.h5"):
        told = []
        load_weights(small_net(tmp_path), str(tmp_path / name), told.append)
        assert len(told) == 1 and f"{name}: weights of 'second', 'third' are NaN or infinite" in told[0]
    told = []
    load_weights(small_net(tmp_path), model_of(saved), told.append)
    assert told == []


# --- states ----------------------------------------------------------------------------------------------------------


def restore(solver, state):
    caffe.get_solver(solver).restore(state)


@pytest.mark.parametrize("kind", SOLVER_TYPES)
@pytest.mark.parametrize("other", SOLVER_TYPES)
def test_states_into_every_type_of_solver(saved, tmp_path, kind, other):
    """What `check_solverstate` lets through, real Caffe restores; what it refuses has another length in Caffe, too."""
    solver = small_solver(tmp_path, other, iterations=1)
    has_two = {"AdaDelta", "Adam"}
    if (kind in has_two) == (other in has_two):
        check_solverstate(state_of(saved, kind), solver)
        solver.restore(state_of(saved, kind))
        assert solver.iter == 2
        solver.step(1)
    else:
        with pytest.raises(ValueError, match=f"{other} keeps (7|14) blobs of history for this net, the file has"):
            check_solverstate(state_of(saved, kind), solver)


@pytest.mark.parametrize(
    "name, message",
    [
        ("history blob missing", "SGD keeps 7 blobs of history for this net, the file has 6"),
        ("history of another shape", "history blob 0 has shape 3 x 2 in the file, and 2 x 3 is needed"),
        ("history cut", "history blob 0 of shape 2 x 3 has 5 values"),
        ("no current step", "has no current_step: it was not written to its end"),
        ("weights gone", "the weights of .* are missing"),
        ("weights empty", "small.caffemodel is empty"),
        ("a layer missing", "has no weights for the layers norm: it is not whole"),
    ],
)
def test_damaged_states(saved, tmp_path, name, message):
    solver = small_solver(tmp_path)
    state, net = parsed("SolverState", state_of(saved, "SGD")), parsed("NetParameter", model_of(saved))
    state.learned_net = str(tmp_path / "small.caffemodel")
    if name == "history blob missing":
        del state.history[-1]
    elif name == "history of another shape":
        state.history[0].shape.dim[:] = [3, 2]
    elif name == "history cut":
        del state.history[0].data[5:]
    elif name == "no current step":
        state.ClearField("current_step")
    elif name == "a layer missing":
        del net.layer[[layer.name for layer in net.layer].index("norm")]
    written(net, tmp_path / "small.caffemodel")
    if name == "weights empty":
        (tmp_path / "small.caffemodel").write_bytes(b"")
    elif name == "weights gone":
        os.unlink(tmp_path / "small.caffemodel")
    path = written(state, tmp_path / "damaged.solverstate")
    with pytest.raises(ValueError, match=message):
        check_solverstate(path, solver)
    assert not is_whole(path)
    if name in ("history blob missing", "history cut", "weights gone"):  # others are taken in silence
        assert ends_in_caffe(restore, tmp_path / "SGD.prototxt", path)


def test_a_state_that_has_diverged_is_told(tmp_path):
    solver = small_solver(tmp_path)
    solver.net.params["first"][0].data[0, 0] = np.inf
    solver.snapshot()
    told = []
    check_solverstate(state_of(tmp_path, "SGD"), solver, told.append)
    assert len(told) == 1 and "SGD_iter_2.caffemodel holds NaN or infinity" in told[0]
