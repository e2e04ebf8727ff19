"""PyTorch against Caffe on one batch of the quickstart: every loss, the network, and the solver's first step.

tools/test_torch.sh runs tests/helpers/caffe_results.py in Caffe's environment first, and says where its file is.
"""

import sys

import pytest
from helpers.against_caffe import found_by_caffe
from helpers.paths import ROOT

torch = pytest.importorskip("torch", reason="compares PyTorch with Caffe")
sys.path[:0] = [str(ROOT / "exper" / name) for name in ("quickstart_torch", "quickstart")]

import settings  # noqa: E402
from network import Network, optimizer  # noqa: E402
from processes import Processes  # noqa: E402
from training import batch_loss, make_loss, region  # noqa: E402

ALONE = Processes(1, 0, 0, torch.device("cpu"))


@pytest.fixture(params=settings.LOSSES)
def caffe(request):
    """What Caffe found with one loss, and the loss's name."""
    found = found_by_caffe(request.param, "tools/test_torch.sh")
    return {"name": request.param, **{name: torch.from_numpy(array.copy()) for name, array in found.items()}}


def distance(actual, expected):
    """Relative, in L2."""
    assert actual.shape == expected.shape and expected.any()
    actual, expected = actual.detach().double(), expected.double()
    return float((actual - expected).norm() / expected.norm())


def test_the_losses_are_equal(caffe):
    probabilities = caffe["score"].softmax(dim=1).requires_grad_()
    value = make_loss(caffe["name"])(caffe["data"], probabilities, caffe["label"], region(caffe["data"]))
    value.backward()
    loss = settings.LOSSES[caffe["name"]]
    assert value.item() == pytest.approx(loss.weight * caffe["loss"].item(), rel=1e-5)
    assert distance(probabilities.grad[..., :: loss.stride, :: loss.stride], caffe["gradient/probability"]) < 1e-5


def parameters(found, when):
    """The state of a `Network` with Caffe's weights."""
    blobs = [
        found[f"{when}/{name}/{i}"] for name in (*(f"conv{n}" for n in range(1, 8)), "score_coarse") for i in (0, 1)
    ]
    names = [name for name in Network().state_dict() if name != "interpolation"]
    assert len(blobs) == len(names)
    return {**dict(zip(names, blobs)), "interpolation": found[f"{when}/score/0"]}


def test_network_loss_and_step_are_equal(caffe):
    network = Network()
    state = parameters(caffe, "before")
    assert torch.equal(state["interpolation"], network.interpolation)
    network.load_state_dict(state)
    scores = network(caffe["data"])
    scores.retain_grad()
    assert distance(scores, caffe["score"]) < 1e-5
    share, cross_entropy = batch_loss(
        scores, caffe["data"], caffe["label"][:, 0].long(), make_loss(caffe["name"]), ALONE
    )
    assert cross_entropy.item() == pytest.approx(caffe["cross_entropy"].item(), rel=1e-5)
    share.backward()
    assert distance(scores.grad, caffe["gradient/score"]) < 1e-4
    optimizer(network, settings.TRAININGS["phase_two"].base_lr).step()
    for name, after in parameters(caffe, "after").items():
        if name != "interpolation":
            assert distance(network.state_dict()[name] - state[name], after - state[name]) < 1e-3
