"""What Caffe makes of one batch of the quickstart, with every loss of phase two: python caffe_results.py FILE.npz

Caffe and PyTorch live in two environments. This runs in Caffe's; tests/pytorch/test_against_caffe.py reads the file.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parents[2] / "exper" / "quickstart"


def results(loss, folder):
    """Values and gradients of the solver's first iteration, and the weights before and after it, by name."""
    import caffe
    import net as definitions

    caffe.set_mode_cpu()
    solver = caffe.get_solver(str(definitions.write_phase_two(loss, folder)))
    net = solver.net
    net.params["score_coarse"][0].data[...] *= 10  # else the classes' probabilities are nearly equal

    def weights():
        return {f"{name}/{i}": blob.data.copy() for name in net.params for i, blob in enumerate(net.params[name])}

    before = weights()
    solver.step(1)
    found = {name: net.blobs[name].data.copy() for name in ("data", "label", "score", "probability")}
    found.update({f"gradient/{name}": net.blobs[name].diff.copy() for name in ("score", "probability")})
    found.update(cross_entropy=net.blobs["loss"].data.copy(), loss=net.blobs[f"{loss}_loss"].data.copy())
    found.update({f"before/{name}": blob for name, blob in before.items()})
    found.update({f"after/{name}": blob for name, blob in weights().items()})
    return {f"{loss}/{name}": array for name, array in found.items()}


def main(path):
    sys.path.insert(0, str(FOLDER))
    os.chdir(FOLDER)  # the solvers name their nets relative to here
    from settings import LOSSES

    arrays = {}
    with tempfile.TemporaryDirectory() as folder:
        for loss in LOSSES:
            arrays.update(results(loss, Path(folder)))
    np.savez(path, **arrays)


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
