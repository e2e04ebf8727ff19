"""Pictures of the study for its report: training curves, and what the models make of the example photographs.

These photographs, unlike VOC's, may be shown; none was trained on.
"""

import numpy as np
from PIL import Image

from rloss_caffe.commands import main as rloss_caffe
from rloss_caffe.datasets import examples

VOC_LABELS = {0: 0, 1: 15, 2: 8}  # of the examples: background, person, cat
PHOTOS = ["astronaut", "camera", "chelsea"]


def write_curves(path, logs):
    """Curves of runs: {name: its logs, one or two phases}."""
    joined = [word for files in logs.values() for word in ["--join", *map(str, files)]]
    run("plot", *joined, "--labels", *logs, "--smooth", "10", "--output", str(path))


def write_sheet(path, models):
    """What models, {name: (test net, weights)}, make of the photographs, with the IoU."""
    folder = path.with_suffix("")
    (folder / "scribbles").mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        Image.fromarray(examples.load_photo(name)).save(folder / f"{name}.png")
        Image.fromarray(as_voc(examples.load_label(name, "masks"))).save(folder / f"{name}_mask.png")
        Image.fromarray(as_voc(examples.load_label(name, "scribbles"))).save(folder / "scribbles" / f"{name}.png")
    (folder / "list.txt").write_text("".join(f"{name}.png {name}_mask.png\n" for name in PHOTOS))
    words = [f"--list={folder / 'list.txt'}", f"--root={folder}/", f"--scribbles={folder / 'scribbles'}"]
    for name, (net, weights) in models.items():
        words += ["--model", f"{name}={net},{weights}"]
    run("show", *words, "--order=list", f"--output={path}")


def run(*words):
    """A command of the package, in this process."""
    if rloss_caffe(words):
        raise RuntimeError(f"'rloss-caffe {words[0]}' failed; its message is above")


def as_voc(label):
    result = np.full_like(label, examples.IGNORE)
    for ours, voc in VOC_LABELS.items():
        result[label == ours] = voc
    return result
