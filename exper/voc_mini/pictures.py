"""Pictures of the study for its report: training curves, and what the models make of the quickstart's photographs.

These photographs, unlike VOC's, may be shown; none was trained on.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from rloss_caffe.datasets import examples

EXPER = Path(__file__).resolve().parents[1]
TOOLS = EXPER.parent / "tools"
VOC_LABELS = {0: 0, 1: 15, 2: 8}  # of the quickstart: background, person, cat
PHOTOS = ["astronaut", "camera", "chelsea"]


def write_curves(path, logs):
    """Curves of runs: {name: its logs, one or two phases}."""
    command = [sys.executable, str(TOOLS / "plot_training.py"), "--output", str(path), "--smooth", "10"]
    for files in logs.values():
        command += ["--join", *map(str, files)]
    subprocess.run([*command, "--labels", *logs], check=True)


def write_sheet(path, models):
    """What models, {name: (test net, weights)}, make of the photographs, with the IoU."""
    folder = path.with_suffix("")
    (folder / "scribbles").mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        Image.fromarray(examples.load_photo(name)).save(folder / f"{name}.png")
        Image.fromarray(as_voc(examples.load_label(name, "masks"))).save(folder / f"{name}_mask.png")
        Image.fromarray(as_voc(examples.load_label(name, "scribbles"))).save(folder / "scribbles" / f"{name}.png")
    (folder / "list.txt").write_text("".join(f"{name}.png {name}_mask.png\n" for name in PHOTOS))
    command = [sys.executable, str(TOOLS / "show_segmentations.py"), f"--list={folder / 'list.txt'}"]
    command += [f"--root={folder}/", f"--scribbles={folder / 'scribbles'}", "--order=list", f"--output={path}"]
    for name, (net, weights) in models.items():
        command += ["--model", f"{name}={net},{weights}"]
    subprocess.run(command, check=True)


def as_voc(label):
    result = np.full_like(label, 255)
    for ours, voc in VOC_LABELS.items():
        result[label == ours] = voc
    return result
