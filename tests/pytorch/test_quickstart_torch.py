"""The quickstart in PyTorch: a short run, two processes beside one, and runs that are killed."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.paths import ROOT

torch = pytest.importorskip("torch", reason="the quickstart trains in PyTorch")
pytest.importorskip("skimage", reason="the photographs come with scikit-image")
Image = pytest.importorskip("PIL.Image", reason="the quickstart reads pictures with Pillow")
pytest.importorskip("matplotlib", minversion="3.7", reason="the pictures are drawn with matplotlib")
FOLDER = ROOT / "exper" / "quickstart_torch"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent / "quickstart")]

import checkpoint  # noqa: E402
import settings  # noqa: E402
from crops import Crops  # noqa: E402
from network import Network, optimizer  # noqa: E402
from processes import Processes  # noqa: E402
from training import batch_loss, make_loss, train  # noqa: E402

from rloss_caffe.datasets import examples  # noqa: E402

ALONE = Processes(1, 0, 0, torch.device("cpu"))
NAMES = list(settings.trainings("normalized_cut"))
OPTIONS = ["--quick", "--loss", "normalized_cut", "--save-every", "1"]
KILLS = 3
ENVIRONMENT = {**os.environ, "RLOSS_NUM_THREADS": "1"}


def command(output, *options, processes=0):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes else []
    return [sys.executable, *launcher, str(FOLDER / "run.py"), *OPTIONS, "--output", str(output), *options]


def run(*arguments, **keywords):
    done = subprocess.run(command(*arguments, **keywords), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def states(output):
    return {name: torch.load(output / "quick" / f"{name}.pt", weights_only=True) for name in NAMES}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The output of a run in one process, and what it printed."""
    output = tmp_path_factory.mktemp("undisturbed")
    return output, run(output)


def test_short_run(undisturbed):
    output, log = undisturbed
    tables = log[log.index("IoU in %") :]
    scores = re.findall(r"^(phase one|phase two|control|full supervision).*?(\d+\.\d)", tables, re.MULTILINE)
    assert len(scores) == 12  # six trainings, in two tables
    assert tables.count("\nphase two: with the normalised cut loss ") == 2
    assert "The DenseCRF loss gains" in log and "The normalised cut loss gains" in log
    for name in examples.PHOTOS:
        width, height = Image.open(output / "quick" / f"{name}.png").size
        assert width == 1200 and height > 600
    found = states(output)
    assert all(state["iteration"] == 4 for state in found.values())
    weights = [state["network"]["trunk.0.weight"] for state in found.values()]
    assert not any(torch.equal(a, b) for a in weights for b in weights if a is not b)


def test_two_processes_are_one_with_the_whole_batch(undisturbed, tmp_path):
    """Three photographs in one and two in the other, with unequal numbers of labelled pixels.

    They agree to rounding; a pixel whose value before a ReLU is 0 but for rounding can change weights by 1e-6. With
    each process's own mean in the place of the batch's, weights would differ by more than 1e-3.
    """
    run(tmp_path, processes=2)
    expected = states(undisturbed[0])
    for name, state in states(tmp_path).items():
        for key, weights in state["network"].items():
            torch.testing.assert_close(weights, expected[name]["network"][key], rtol=1e-4, atol=1e-5)


def saved(output):
    """How many checkpoints there are, and when the last one was written."""
    times = [path.stat().st_mtime_ns for path in (output / "quick").glob("*.pt")]
    return len(times), max(times, default=0)


def kill_after(output, saves, pause):
    """Start a run that goes on, and kill it after so many checkpoints more; whether it was still there."""
    process = subprocess.Popen(
        command(output, "--resume"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    seen, last = 0, saved(output)
    while process.poll() is None and seen < saves:
        now = saved(output)
        seen, last = seen + (now != last), now
        time.sleep(0.001)
    time.sleep(pause)
    process.kill()
    errors = process.communicate()[1]
    assert process.returncode in (-signal.SIGKILL, 0), errors
    return process.returncode != 0


def test_killed_at_random_and_resumed(undisturbed, tmp_path):
    """A run that is killed again and again ends with the weights, bit for bit, of one that never was."""
    random_number, killed = random.Random(0), 0
    for _ in range(KILLS):
        killed += kill_after(tmp_path, random_number.randint(1, 6), random_number.uniform(0, 0.05))
    assert killed
    run(tmp_path, "--resume")
    assert not list((tmp_path / "quick").glob("*.part"))
    expected = states(undisturbed[0])
    for name, state in states(tmp_path).items():
        assert str(state) == str(expected[name])  # every name and number, momentum and schedule included
        for key, weights in state["network"].items():
            assert torch.equal(weights, expected[name]["network"][key])
        for key, momentum in state["optimizer"]["state"].items():
            assert torch.equal(
                momentum["momentum_buffer"], expected[name]["optimizer"]["state"][key]["momentum_buffer"]
            )


def test_a_checkpoint_of_another_run_is_refused(undisturbed):
    output = undisturbed[0]
    done = subprocess.run(command(output, "--resume", "--seed", "2"), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode != 0
    assert re.fullmatch(
        r"quickstart failed: ValueError: .*phase_one.pt is from a run with .*'seed': 1.*\n", done.stderr
    )


def test_random_numbers_go_on(tmp_path):
    torch.manual_seed(3)
    checkpoint.save(tmp_path / "a.pt", ALONE, {"seed": 3}, 7)
    expected = torch.rand(5)
    torch.manual_seed(4)
    assert checkpoint.load(tmp_path / "a.pt", ALONE, {"seed": 3}) == 7
    assert torch.equal(torch.rand(5), expected)
    assert checkpoint.load(tmp_path / "b.pt", ALONE, {"seed": 3}) == 0


def test_weights_alone_are_no_checkpoint(tmp_path):
    torch.save(Network().state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="a.pt cannot be read as a checkpoint: it is another file"):
        checkpoint.load(tmp_path / "a.pt", ALONE, {})


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_is_no_checkpoint(tmp_path, share):
    path = tmp_path / "a.pt"
    checkpoint.save(path, ALONE, {}, 1, network=Network())
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="a.pt cannot be read as a checkpoint"):
        checkpoint.load(path, ALONE, {})


def test_what_stops_the_training(tmp_path):
    network = Network()
    with torch.no_grad():
        network.trunk[0].bias[0] = float("nan")
    with pytest.raises(ValueError, match="partial cross-entropy: the cross-entropy is nan after 1 iterations"):
        train(network, settings.TRAININGS["phase_one"], tmp_path / "a.pt", ALONE, 1, 2, 1, False)
    assert not list(tmp_path.iterdir())


def test_learning_rate_is_caffes(tmp_path):
    """The policy "poly"; biases learn at twice the rate."""
    sgd = optimizer(Network(), 0.01)
    schedule = torch.optim.lr_scheduler.PolynomialLR(sgd, 400, settings.POWER)
    for iteration in range(400):
        rate = 0.01 * (1 - iteration / 400) ** 0.9
        assert [group["lr"] for group in sgd.param_groups] == pytest.approx([rate, 2 * rate])
        sgd.step()
        schedule.step()


def test_crops_do_not_depend_on_the_number_of_processes():
    one, other = (Crops("scribbles", settings.CROP, 1) for _ in range(2))
    for count in (1, 2, 3, 5):
        images, labels = one.cut(one.draw())
        places = other.draw()
        for rank in range(count):
            own_images, own_labels = other.cut(places, rank, count)
            assert (own_images == images[rank::count]).all() and (own_labels == labels[rank::count]).all()
    assert len(images) == len(examples.PHOTOS) and set(labels.ravel()) > {0, 255}


@pytest.mark.parametrize("loss", settings.LOSSES)
def test_mixed_precision(loss):
    """The network in bfloat16, the losses in float32: nearly the value and the gradient of float32 alone."""
    torch.manual_seed(1)
    network, crops, found = Network(), Crops("scribbles", settings.CROP, 1), []
    images, labels = map(torch.from_numpy, crops.cut(crops.draw(), 0, 2))
    for is_mixed in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            scores = network(images)
        assert scores.dtype == (torch.bfloat16 if is_mixed else torch.float32)
        share, _ = batch_loss(scores, images, labels.long(), make_loss(loss), ALONE)
        share.backward()
        assert share.dtype == torch.float32
        found.append((share.item(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])))
    (value, gradient), (mixed_value, mixed_gradient) = found
    assert mixed_value == pytest.approx(value, rel=0.02)
    assert torch.nn.functional.cosine_similarity(gradient, mixed_gradient, dim=0) > 0.98
