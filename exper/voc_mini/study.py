#!/usr/bin/env python
"""Does a regularised loss help? The paper's experiment at the size of a CPU, on real photographs of PASCAL VOC.

Usage: python exper/voc_mini/study.py [--data-root FOLDER] [--output FOLDER] [--jobs 2] [--seeds 1 2 3]
       [--losses densecrf ...] [--tune] [--scribbles LIST] [--quick]

FOLDER is what make_data.py writes, with squeezenet_v1.0.caffemodel beside. For each seed:

    phase_one   partial cross-entropy on the scribbles
    LOSS        goes on from phase one with that loss, for each loss asked for
    control     goes on from phase one as long, without any
    full        cross-entropy on the full masks, for as many iterations as both phases together

Weights and parameters are chosen on every sixth image of the training list, which no run is trained on. Only the final
scores look at the validation images. Every step is a call of exper/run_pascal_scribble.sh, so the study can be stopped
at any time; the same command goes on. It writes results.md, results.json, curves.png and photographs.png into OUTPUT.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from statistics import mean

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded for the pictures: its log would bury ours

import pictures
import report
from command_line import run
from loss_terms import read_terms
from schedule import run_all
from tqdm import tqdm

from rloss_caffe.data.files import read_lines, write_text
from rloss_caffe.data.progress import progress_bar

HERE = Path(__file__).resolve().parent
ROOT = str(HERE.parents[1])
SCRIPT = HERE.parent / "run_pascal_scribble.sh"
NETWORK = "deeplab_squeezenet"
CROP, TEST_CROP, BATCH = 225, 321, 4
ITERATIONS = {"phase_one": 1500, "phase_two": 3000}
QUICK, QUICK_IMAGES = {"phase_one": 4, "phase_two": 2}, 6
# Mean-field inference at test time, on top of the scores: the settings in the comments of DeepLab-LargeFOV's test net.
DENSE_CRF = "max_iter: 10\npos_w: 3\npos_xy_std: 3\nbi_w: 5\nbi_xy_std: 50\nbi_rgb_std: 10"
WITH_CRF = "val_dense_crf"  # the validation list, scored with it


@dataclass(frozen=True)
class Setting:
    """A loss of phase two with its weight and parameters, as the run script takes them."""

    loss: str
    weight: str = ""
    parameters: str = ""

    @property
    def folder(self):
        """A relative path, different for each setting; its first part is the loss."""
        words = re.sub(r"[^\w.-]+", "_", f"weight_{self.weight} {self.parameters}").strip("_")
        return f"{self.loss}/{words}" if self.weight else self.loss


def read_setting(text):
    """A setting written like ``local_potts: {weight: 1, radius: 1}``, one loss of loss_terms.py with its weight."""
    term, *others = read_terms(text)
    if others or not term.weight or term.shrink != 1:
        raise ValueError(f"a setting is one loss with a weight, without push or shrink: found {text!r}")
    options = [f"{name}: {word_of(value)}" for name, value in sorted(term.options.items())]
    return Setting(term.name, f"{term.weight:g}".replace("e-0", "e-"), ", ".join(options))


def word_of(value):
    """As in a param_str."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


CONTROL = Setting("none")
# What is tried of each loss.
SETTINGS = {
    "densecrf": ["{weight: 3e-8, bi_xy_std: 30, bi_rgb_std: 15}", "{weight: 8e-8, bi_xy_std: 30, bi_rgb_std: 15}"],
    "normalized_cut": ["{weight: 0.3, bi_xy_std: 30, bi_rgb_std: 15}", "{weight: 1, bi_xy_std: 30, bi_rgb_std: 15}"],
    "kernel_cut": ["{weight: 0.3, densecrf_weight: 1e-7, bi_xy_std: 30, bi_rgb_std: 15}"],
    "local_potts": [
        "{weight: 10, radius: 1, relaxation: absolute, normalization: WEIGHTS, contrast: image}",
        "{weight: 30, radius: 1, relaxation: absolute, normalization: WEIGHTS, contrast: image}",
    ],
    "self_label": [
        "{weight: 30, lambda: 50, steps: 100, labelled_weight: 0}",
        "{weight: 30, lambda: 50, steps: 100, labelled_weight: 0, classes: labelled}",
    ],
}


def candidates_of(words):
    """{name: settings} of what is asked for: of a loss those of SETTINGS, or one setting that is written out."""
    found = {}
    for word in words:
        name = loss = word.split(":")[0]
        number = 1
        while name in found:
            number += 1
            name = f"{loss}_{number}"
        texts = [f"{word}: {options}" for options in SETTINGS.get(word, [])] or [word]
        found[name] = [read_setting(text) for text in texts]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=HERE / "data", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=HERE / "output", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time, one thread each; default 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="SEED", help="default: 1")
    parser.add_argument(
        "--losses",
        nargs="+",
        default=["densecrf"],
        metavar="LOSS",
        help=f"{', '.join(SETTINGS)}: the best of its settings; or one setting, such as "
        "'densecrf: {weight: 3e-8, bi_xy_std: 30}'; default: densecrf",
    )
    parser.add_argument(
        "--tune", action="store_true", help="only phase one, the control and the settings, on the images held out"
    )
    parser.add_argument("--scribbles", type=Path, metavar="LIST", help="default: list/train.txt in the data's folder")
    parser.add_argument(
        "--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick"
    )
    arguments = parser.parse_args()
    candidates = candidates_of(arguments.losses)
    output, iterations, images = arguments.output.resolve(), ITERATIONS, None
    if arguments.quick:
        output, iterations, images = output / "quick", QUICK, QUICK_IMAGES
    study = Study(arguments.data_root.resolve(), output, iterations, images)
    study.check_data()
    study.write_lists(arguments.scribbles)
    seeds = arguments.seeds
    study.tuned_on = seeds if arguments.tune else seeds[:1]
    for seed in seeds:
        study.plan_first_phase(seed)
        if not arguments.tune:
            study.plan_full_masks(seed)
    for seed in study.tuned_on:
        for setting in [CONTROL, *chain(*candidates.values())]:
            study.plan_second_phase(seed, setting)
    study.run(arguments.jobs)
    tuning = study.tuning(chain(*candidates.values()))
    if arguments.tune:
        print(report.tuning(tuning))
        return
    chosen = {name: max(settings, key=study.held_out_score) for name, settings in candidates.items()}
    for seed in seeds:
        for setting in [CONTROL, *chosen.values()]:
            study.plan_second_phase(seed, setting)
        for folder in study.folders(seed, chosen).values():
            study.plan_final_scores(folder)
    study.run(arguments.jobs)
    study.report(seeds, chosen, tuning)
    study.draw(seeds[0], chosen)


@dataclass
class Step:
    """Weights, trained if they are not there, and their scores on a list."""

    folder: str  # below the study's
    test_set: str
    needs: list = field(default_factory=list)  # names of steps
    variables: dict = field(default_factory=dict)  # of the run script
    begins_at: int = -1  # byte of the log, once it has begun

    @property
    def name(self):
        return self.folder, self.test_set


class Study:
    """Steps, by name, each with a folder of its own. `images` are scored of each list, None: all."""

    def __init__(self, data_root, output, iterations, images=None):
        self.data_root, self.output, self.iterations, self.images = data_root, output, iterations, images
        self.steps = {}
        self.tuned_on = []  # seeds

    def check_data(self):
        """What all steps need is there."""
        names = ["list/train.txt", "list/train_full.txt", "list/val.txt", "squeezenet_v1.0.caffemodel"]
        missing = [str(self.data_root / name) for name in names if not (self.data_root / name).is_file()]
        if missing:
            raise FileNotFoundError(f"missing: {', '.join(missing)}; {HERE / 'README.md'} says where they come from")

    def write_lists(self, scribbles=None):
        """Training lists without the images held out, and these with their masks; `scribbles` replaces train.txt."""
        folder = self.output / "list"
        folder.mkdir(parents=True, exist_ok=True)
        lists = {name: read_lines(self.data_root / "list" / f"{name}.txt") for name in ("train", "train_full", "val")}
        if scribbles:
            lists["train"] = read_lines(scribbles)
            images = [[line.split()[:1] for line in lists[name]] for name in ("train", "train_full")]
            if images[0] != images[1]:
                raise ValueError(f"{scribbles} must name the images of train_full.txt, in the same order")
        held_out = {"held_out": lists["train_full"][::6], "held_out_scribbles": lists["train"][::6]}
        for name in ("train", "train_full"):
            lists[name] = [line for index, line in enumerate(lists[name]) if index % 6]
        lists.update(held_out)
        for name in ("val", "held_out", "held_out_scribbles"):
            lists[name] = lists[name][: self.images]
        for name, lines in lists.items():
            write_text(folder / f"{name}.txt", "".join(f"{line}\n" for line in lines))

    def plan(self, *step):
        step = Step(*step)
        self.steps[step.name] = step

    def plan_first_phase(self, seed):
        variables = {"RUN_TRAINWITHDENSECRFLOSS": 0, "SEED": seed, "MAX_ITER": self.iterations["phase_one"]}
        self.plan(f"seed{seed}/phase_one", "held_out", [], variables)

    def plan_full_masks(self, seed):
        variables = {"RUN_TRAINWITHDENSECRFLOSS": 0, "SEED": seed, "MAX_ITER": sum(self.iterations.values())}
        self.plan(f"seed{seed}/full", "held_out", [], {**variables, "TRAIN_SET_SUFFIX": "_full"})

    def plan_second_phase(self, seed, setting):
        first = f"seed{seed}/phase_one"
        variables = {
            "LOSS": setting.loss,
            "LOSS_WEIGHT": setting.weight,
            "LOSS_PARAMS": setting.parameters,
            "RUN_TRAIN": 0,
            "WEIGHTS2": self.weights(first),
            "MAX_ITER2": self.iterations["phase_two"],
            "SEED": seed + 100,
        }
        self.plan(folder_of(seed, setting), "held_out", [(first, "held_out")], variables)

    def plan_final_scores(self, folder):
        """On the validation images, as the network is and with mean-field inference on top."""
        self.plan(folder, "val", [(folder, "held_out")], self.steps[folder, "held_out"].variables)
        self.plan(folder, WITH_CRF, [(folder, "val")])

    def weights(self, folder):
        """The final ones."""
        return self.output / folder / "model" / NETWORK / f"{phase_of(folder)}_iter_{self.length(folder)}.caffemodel"

    def length(self, folder):
        """Iterations of a training."""
        kind = folder.split("/")[1]
        phases = {"phase_one": ["phase_one"], "full": ["phase_one", "phase_two"]}.get(kind, ["phase_two"])
        return sum(self.iterations[phase] for phase in phases)

    def scores_path(self, folder, test_set="val"):
        return self.output / folder / "log" / NETWORK / f"{phase_of(folder)}_{test_set}.json"

    def scores(self, folder, test_set="val"):
        return json.loads(self.scores_path(folder, test_set).read_text())["accuracy"]

    def is_done(self, name):
        return self.scores_path(*name).exists()

    def run(self, jobs):
        """Do all steps that are not done, `jobs` at a time, each after those that it needs."""
        needs = {name: step.needs for name, step in self.steps.items()}
        works = {name: self.work(step) for name, step in self.steps.items() if not self.is_done(name)}
        with progress_bar(sum(works.values()), "iterations and images", unit="it") as bar:

            def watch():
                done = sum(min(self.progress(self.steps[name]), work) for name, work in works.items())
                bar.update(done - bar.n)

            run_all(needs, set(self.steps) - set(works), self.run_step, jobs, watch)

    def work(self, step):
        """Iterations and images that are still to be done."""
        is_trained = self.weights(step.folder).exists() or any(folder == step.folder for folder, _ in step.needs)
        training = 0 if is_trained else self.length(step.folder)
        return training + self.n_images(step)

    def n_images(self, step):
        name = "val" if step.test_set == WITH_CRF else step.test_set
        return len(entries_of(self.output / "list" / f"{name}.txt"))

    def log_path(self, step):
        return self.output / step.folder / "output.txt"

    def progress(self, step):
        """Iterations and images that are done, as the step's log says."""
        if self.is_done(step.name):
            return sys.maxsize
        if step.begins_at < 0:
            return 0
        with open(self.log_path(step), errors="replace") as log:
            log.seek(step.begins_at)
            text = log.read()
        counts = [re.findall(rf"\b{word} (\d+)\b", text)[-1:] for word in ("Iteration", "Batch")]
        return sum(int(number) for found in counts for number in found)

    def run_step(self, name):
        """Train and score, as far as it is not done."""
        step = self.steps[name]
        tqdm.write(f"{time.strftime('%H:%M:%S')} {', '.join(name)}: begins")
        log = self.log_path(step)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        step.begins_at = log.stat().st_size
        command = self.dense_crf_command(step) if step.test_set == WITH_CRF else self.script_command(step)
        # One thread each, Caffe's BLAS included: more, in several processes at once, get in each other's way.
        environment = dict(os.environ, RLOSS_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", GLOG_minloglevel="0")
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        with open(log, "a") as file:
            status = subprocess.run(command, stdout=file, stderr=file, env=environment).returncode
        if status:
            raise RuntimeError(f"{', '.join(name)} failed with status {status}; {log} says why")
        tqdm.write(f"{time.strftime('%H:%M:%S')} {', '.join(name)}: {self.scores(*name)['mean_iou']:.2f}")

    def script_command(self, step):
        variables = {
            **step.variables,
            "NET_ID": NETWORK,
            "DATA_ROOT": self.data_root,
            "OUTPUT": self.output / step.folder,
            "LIST_DIR": self.output / "list",
            "TEST_SET": step.test_set,
            "DEV_ID": "cpu",
            "SNAPSHOT": 100,
            "CROP_SIZE": CROP,
            "TEST_CROP_SIZE": TEST_CROP,
            "BATCH_SIZE": BATCH,
        }
        return [str(SCRIPT), *(f"{name}={value}" for name, value in variables.items())]

    def dense_crf_command(self, step):
        """Mean-field inference on top of the scores, in the same net."""
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format

        config = self.output / step.folder / "config" / NETWORK
        net = text_format.Parse((config / "test_val.prototxt").read_text(), caffe_pb2.NetParameter())
        crf = caffe_pb2.LayerParameter(
            name="crf",
            type="Python",
            bottom=["fc8_interp", "data_dim", "data"],
            top=["crf"],
            python_param={"module": "rloss_caffe.layers", "layer": "DenseCRF", "param_str": DENSE_CRF},
        )
        layers = [layer for layer in net.layer if layer.type != "Silence" and layer.name != "accuracy"]
        accuracy = next(layer for layer in net.layer if layer.name == "accuracy")
        accuracy.bottom[0] = "crf"
        path = config / "test_dense_crf.prototxt"
        write_text(path, text_format.MessageToString(caffe_pb2.NetParameter(layer=[*layers, crf, accuracy])))
        command = [sys.executable, "-m", "rloss_caffe", "test", f"--model={path}"]
        command += [f"--weights={self.weights(step.folder)}", f"--iterations={self.n_images(step)}"]
        return [*command, f"--json={self.scores_path(*step.name)}"]

    def held_out_score(self, setting):
        """Mean IoU on the images held out."""
        scores = [self.scores(folder_of(seed, setting), "held_out") for seed in self.tuned_on]
        return mean(each["mean_iou"] for each in scores)

    def tuning(self, settings):
        """The control and the settings with their scores on the images held out."""
        return [{**asdict(each), "mean_iou": self.held_out_score(each)} for each in [CONTROL, *settings]]

    def report(self, seeds, settings, tuning):
        chosen = {name: asdict(setting) for name, setting in settings.items()}
        results = {"settings": chosen, "iterations": self.iterations, "runs": {}, "tuning": tuning}
        for seed in seeds:
            for name, folder in self.folders(seed, settings).items():
                scores = {"plain": "val", "dense_crf": WITH_CRF, "held_out": "held_out"}
                results["runs"][f"seed{seed}/{name}"] = {key: self.scores(folder, of) for key, of in scores.items()}
        text = report.report(results, seeds)
        write_text(self.output / "results.md", text)
        write_text(self.output / "results.json", json.dumps(results, indent=1) + "\n")
        print(f"\n{text}\nwrote {self.output / 'results.md'} and results.json")

    def folders(self, seed, settings):
        """Of the runs that are compared, by name."""
        return {
            "phase_one": f"seed{seed}/phase_one",
            "control": folder_of(seed, CONTROL),
            **{name: folder_of(seed, setting) for name, setting in settings.items()},
            "full": f"seed{seed}/full",
        }

    def draw(self, seed, settings):
        """Pictures of one seed's runs."""
        folders = {name.replace("_", " "): folder for name, folder in self.folders(seed, settings).items()}
        logs = {name: self.logs(folder) for name, folder in folders.items()}
        one = logs.pop("phase one")
        for name in logs:
            if name != "full":
                logs[name] = [*one, *logs[name]]
        pictures.write_curves(self.output / "curves.png", logs)
        models = {}
        for name, folder in folders.items():
            models[name] = self.output / folder / "config" / NETWORK / "test_val.prototxt", self.weights(folder)
        pictures.write_sheet(self.output / "photographs.png", models)

    def logs(self, folder):
        return sorted((self.output / folder / "log" / NETWORK).glob(f"{phase_of(folder)}_2*.log"))


def phase_of(folder):
    """What the run script calls the phase that a folder holds."""
    kind = folder.split("/")[1]
    if kind in ("phase_one", "full"):
        return "train"
    return f"trainwith{'no' if kind == CONTROL.loss else kind.replace('_', '')}loss"


def folder_of(seed, setting):
    """Where a second phase is."""
    return f"seed{seed}/{setting.folder}"


def entries_of(path):
    """The lines of a list."""
    return [line for line in read_lines(path) if line.strip()]


if __name__ == "__main__":
    run(main, interrupted="stopped; the same command goes on")
