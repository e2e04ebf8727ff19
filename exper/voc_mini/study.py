#!/usr/bin/env python
"""Does the DenseCRF loss help? The paper's experiment at the size of a CPU, on real photographs of PASCAL VOC.

Usage: python exper/voc_mini/study.py [--data-root FOLDER] [--output FOLDER] [--jobs 2] [--seeds 1 2 3] [--quick]

FOLDER is what make_data.py writes, with squeezenet_v1.0.caffemodel beside. For each seed:

    phase_one   partial cross-entropy on the scribbles
    phase_two   goes on from phase one with the DenseCRF loss
    control     goes on from phase one as long, without it (loss weight 0)
    full        cross-entropy on the full masks, for as many iterations as both phases together

Weight and bandwidths are chosen on every sixth image of the training list, which no run is trained on. Only the final
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
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("GLOG_minloglevel", "2")  # before caffe is loaded for the pictures: its log would bury ours

import pictures
import report
from command_line import run
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
CONTROL = "0", 60, 15  # loss weight, bi_xy_std, bi_rgb_std
SETTINGS = [("3e-8", 30, 15), ("8e-8", 30, 15)]
# Mean-field inference at test time, on top of the scores: the settings in the comments of DeepLab-LargeFOV's test net.
DENSE_CRF = "max_iter: 10\npos_w: 3\npos_xy_std: 3\nbi_w: 5\nbi_xy_std: 50\nbi_rgb_std: 10"
WITH_CRF = "val_dense_crf"  # the validation list, scored with it


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=HERE / "data", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=HERE / "output", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time, one thread each; default 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="SEED", help="default: 1")
    parser.add_argument(
        "--quick", action="store_true", help="a few iterations only, to see that all works; written into OUTPUT/quick"
    )
    arguments = parser.parse_args()
    output, iterations, images = arguments.output.resolve(), ITERATIONS, None
    if arguments.quick:
        output, iterations, images = output / "quick", QUICK, QUICK_IMAGES
    study = Study(arguments.data_root.resolve(), output, iterations, images)
    study.check_data()
    study.write_lists()
    first, *others = arguments.seeds
    study.plan_first_phase(first)
    for setting in [CONTROL, *SETTINGS]:
        study.plan_second_phase(first, setting, "held_out")
    for seed in others:
        study.plan_first_phase(seed)
    study.run(arguments.jobs)
    setting = study.best_setting(first)
    for seed in arguments.seeds:
        study.plan_second_phase(seed, CONTROL, "val")
        study.plan_second_phase(seed, setting, "val")
        for folder in study.folders(seed, setting).values():
            study.plan_dense_crf(folder)
    study.run(arguments.jobs)
    study.report(arguments.seeds, setting)
    study.draw(first, setting)


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

    def check_data(self):
        """What all steps need is there."""
        names = ["list/train.txt", "list/train_full.txt", "list/val.txt", "squeezenet_v1.0.caffemodel"]
        missing = [str(self.data_root / name) for name in names if not (self.data_root / name).is_file()]
        if missing:
            raise FileNotFoundError(f"missing: {', '.join(missing)}; {HERE / 'README.md'} says where they come from")

    def write_lists(self):
        """Training lists without the images held out, and these with their masks."""
        folder = self.output / "list"
        folder.mkdir(parents=True, exist_ok=True)
        lists = {name: read_lines(self.data_root / "list" / f"{name}.txt") for name in ("train", "train_full", "val")}
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
        one, two = self.iterations["phase_one"], self.iterations["phase_two"]
        variables = {"RUN_TRAINWITHDENSECRFLOSS": 0, "SEED": seed, "MAX_ITER": one}
        self.plan(f"seed{seed}/phase_one", "val", [], variables)
        variables = {**variables, "MAX_ITER": one + two, "TRAIN_SET_SUFFIX": "_full"}
        self.plan(f"seed{seed}/full", "val", [], variables)

    def plan_second_phase(self, seed, setting, test_set):
        weight, xy_std, rgb_std = setting
        first = f"seed{seed}/phase_one"
        variables = {
            "DENSECRF_LOSS_WEIGHT": weight,
            "BI_XY_STD": xy_std,
            "BI_RGB_STD": rgb_std,
            "RUN_TRAIN": 0,
            "WEIGHTS2": self.weights(first),
            "MAX_ITER2": self.iterations["phase_two"],
            "SEED": seed + 100,
        }
        self.plan(folder_of(seed, setting), test_set, [(first, "val")], variables)

    def plan_dense_crf(self, folder):
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
        training = 0 if self.weights(step.folder).exists() else self.length(step.folder)
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

    def best_setting(self, seed):
        """The setting with the highest mean IoU on the images held out."""
        return max(SETTINGS, key=lambda setting: self.scores(folder_of(seed, setting), "held_out")["mean_iou"])

    def report(self, seeds, setting):
        results = {"setting": setting, "iterations": self.iterations, "runs": {}, "tuning": []}
        for candidate in [CONTROL, *SETTINGS]:
            score = self.scores(folder_of(seeds[0], candidate), "held_out")["mean_iou"]
            results["tuning"].append({"setting": candidate, "mean_iou": score})
        for seed in seeds:
            for name, folder in self.folders(seed, setting).items():
                plain, with_crf = self.scores(folder), self.scores(folder, WITH_CRF)
                results["runs"][f"seed{seed}/{name}"] = {"plain": plain, "dense_crf": with_crf}
        text = report.report(results, seeds)
        write_text(self.output / "results.md", text)
        write_text(self.output / "results.json", json.dumps(results, indent=1) + "\n")
        print(f"\n{text}\nwrote {self.output / 'results.md'} and results.json")

    def folders(self, seed, setting):
        """Of the runs that are compared, by the names they have in report.RUNS."""
        return {
            "phase_one": f"seed{seed}/phase_one",
            "phase_two": folder_of(seed, setting),
            "control": folder_of(seed, CONTROL),
            "full": f"seed{seed}/full",
        }

    def draw(self, seed, setting):
        """Pictures of one seed's runs."""
        titles = {"phase_one": "phase one", "control": "control", "phase_two": "phase two", "full": "full masks"}
        folders = self.folders(seed, setting)
        logs = {title: self.logs(folders[name]) for name, title in titles.items()}
        one = logs.pop("phase one")
        for name in ("phase two", "control"):
            logs[name] = [*one, *logs[name]]
        pictures.write_curves(self.output / "curves.png", logs)
        models = {}
        for name, title in titles.items():
            net = self.output / folders[name] / "config" / NETWORK / "test_val.prototxt"
            models[title] = net, self.weights(folders[name])
        pictures.write_sheet(self.output / "photographs.png", models)

    def logs(self, folder):
        return sorted((self.output / folder / "log" / NETWORK).glob(f"{phase_of(folder)}_2*.log"))


def phase_of(folder):
    """What the run script calls the phase that a folder holds."""
    return "train" if folder.endswith(("/phase_one", "/full")) else "trainwithdensecrfloss"


def folder_of(seed, setting):
    """Where a second phase is."""
    return "seed{}/weight_{}_xy_{}_rgb_{}".format(seed, *setting)


def entries_of(path):
    """The lines of a list."""
    return [line for line in read_lines(path) if line.strip()]


if __name__ == "__main__":
    run(main, interrupted="stopped; the same command goes on")
