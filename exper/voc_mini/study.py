#!/usr/bin/env python
"""Does the DenseCRF loss help? The paper's experiment at the size of a CPU, on real photographs of PASCAL VOC.

Usage: python exper/voc_mini/study.py --data-root FOLDER [--output FOLDER] [--jobs 2] [--seeds 1] [--quick]

FOLDER holds JPEGImages, pascal_2012_scribble, SegmentationClassAug, list/{train,train_full,val}.txt and
squeezenet_v1.0.caffemodel. For each seed:

    phase_one   partial cross-entropy on the scribbles
    phase_two   goes on from phase one with the DenseCRF loss
    control     goes on from phase one as long, without it (loss weight 0)
    full        cross-entropy on the full masks, for as many iterations as both phases together

Weight and bandwidths are chosen on every sixth image of the training list, which no run is trained on; the validation
images are looked at by the final scores alone. Every step is a call of exper/run_pascal_scribble.sh, so the study can
be stopped at any time; the same command goes on. It writes results.json, results.md, curves.png and photographs.png.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import pictures
import tables

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent / "run_pascal_scribble.sh"
NETWORK = "deeplab_squeezenet"
CROP, TEST_CROP, BATCH = 225, 321, 4
ITERATIONS = {"phase_one": 1500, "phase_two": 3000}
QUICK = {"phase_one": 4, "phase_two": 2}
CONTROL = "0", 60, 15  # loss weight, bi_xy_std, bi_rgb_std
SETTINGS = [("3e-8", 30, 15), ("8e-8", 30, 15)]
# Mean-field inference at test time, on top of the scores: the settings in the comments of DeepLab-LargeFOV's test net.
DENSE_CRF = "max_iter: 10\npos_w: 3\npos_xy_std: 3\nbi_w: 5\nbi_xy_std: 50\nbi_rgb_std: 10"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time, one thread each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--quick", action="store_true", help="a few iterations only: does everything work?")
    arguments = parser.parse_args()
    study = Study(arguments.data_root.resolve(), arguments.output.resolve(), QUICK if arguments.quick else ITERATIONS)
    study.write_lists()
    first, *others = arguments.seeds
    study.plan_first_phase(first)
    for setting in [CONTROL, *SETTINGS]:
        study.plan_second_phase(first, setting, "held_out")
    for seed in others:
        study.plan_first_phase(seed)
    try:
        study.run(arguments.jobs)
        setting = study.best_setting(first)
        for seed in arguments.seeds:
            study.plan_second_phase(seed, CONTROL, "val")
            study.plan_second_phase(seed, setting, "val")
        study.run(arguments.jobs)
        study.report(arguments.seeds, setting)
        study.draw(first, setting)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(130)


class Study:
    """Steps, each a folder of its own, and which must be done before which."""

    def __init__(self, data_root, output, iterations):
        self.data_root, self.output, self.iterations = data_root, output, iterations
        self.steps = {}  # (folder, list to score): (steps it needs, variables of the run script)

    def write_lists(self):
        """Training lists without the images held out, and these with their masks."""
        folder = self.output / "list"
        folder.mkdir(parents=True, exist_ok=True)
        lists = {name: read_lines(self.data_root / "list" / f"{name}.txt") for name in ("train", "train_full", "val")}
        held_out = {"held_out": lists["train_full"][::6], "held_out_scribbles": lists["train"][::6]}
        for name in ("train", "train_full"):
            lists[name] = [line for index, line in enumerate(lists[name]) if index % 6]
        for name, lines in {**lists, **held_out}.items():
            (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))

    def plan_first_phase(self, seed):
        one, two = self.iterations["phase_one"], self.iterations["phase_two"]
        variables = {"RUN_TRAINWITHDENSECRFLOSS": 0, "SEED": seed}
        self.steps[f"seed{seed}/phase_one", "val"] = [], dict(variables, MAX_ITER=one)
        self.steps[f"seed{seed}/full", "val"] = [], dict(variables, MAX_ITER=one + two, TRAIN_SET_SUFFIX="_full")

    def plan_second_phase(self, seed, setting, test_set):
        """Training, if it is not done, and scoring."""
        start = self.weights(f"seed{seed}/phase_one")
        weight, xy_std, rgb_std = setting
        variables = {"DENSECRF_LOSS_WEIGHT": weight, "BI_XY_STD": xy_std, "BI_RGB_STD": rgb_std}
        variables.update(RUN_TRAIN=0, WEIGHTS2=start, MAX_ITER2=self.iterations["phase_two"], SEED=seed + 100)
        self.steps[folder_of(seed, setting), test_set] = [(f"seed{seed}/phase_one", "val")], variables

    def weights(self, folder):
        kind = folder.split("/")[1]
        iterations = {"phase_one": ["phase_one"], "full": ["phase_one", "phase_two"]}.get(kind, ["phase_two"])
        count = sum(self.iterations[phase] for phase in iterations)
        return self.output / folder / "model" / NETWORK / f"{phase_of(folder)}_iter_{count}.caffemodel"

    def scores_path(self, folder, test_set="val", suffix=""):
        return self.output / folder / "log" / NETWORK / f"{phase_of(folder)}_{test_set}{suffix}.json"

    def scores(self, folder, test_set="val", suffix=""):
        return json.loads(self.scores_path(folder, test_set, suffix).read_text())["accuracy"]

    def run(self, jobs):
        """Do all steps that are not done, `jobs` at a time, each after those that it needs."""
        # Those that others wait for come first.
        needed = {name for needs, _ in self.steps.values() for name in needs}
        waiting = [step for step in self.steps if not self.scores_path(*step).exists()]
        waiting.sort(key=lambda step: step not in needed)
        done, running = set(self.steps) - set(waiting), {}
        with ThreadPoolExecutor(jobs) as pool:
            while waiting or running:
                ready = [step for step in waiting if done.issuperset(self.steps[step][0])]
                for step in ready[: jobs - len(running)]:
                    waiting.remove(step)
                    running[pool.submit(self.run_step, step)] = step
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    done.add(running.pop(future))

    def run_step(self, step):
        name, test_set = step
        variables = dict(self.steps[step][1], NET_ID=NETWORK, DATA_ROOT=self.data_root, OUTPUT=self.output / name)
        variables.update(LIST_DIR=self.output / "list", TEST_SET=test_set, DEV_ID="cpu", SNAPSHOT=100)
        variables.update(CROP_SIZE=CROP, TEST_CROP_SIZE=TEST_CROP, BATCH_SIZE=BATCH)
        command = [str(SCRIPT), *(f"{name}={value}" for name, value in variables.items())]
        # One thread each, Caffe's BLAS included: more, in several processes at once, get in each other's way.
        environment = dict(os.environ, RLOSS_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", GLOG_minloglevel="0")
        print(f"{time.strftime('%H:%M:%S')} {name}, {test_set}: begins", flush=True)
        folder = self.output / name
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "output.txt", "a") as log:
            status = subprocess.run(command, stdout=log, stderr=log, env=environment).returncode
        if status:
            raise SystemExit(f"{name} failed with status {status}; see {log.name}")
        score = self.scores(name, test_set)["mean_iou"]
        print(f"{time.strftime('%H:%M:%S')} {name}, {test_set}: {score:.2f}", flush=True)

    def best_setting(self, seed):
        """The setting with the highest mean IoU on the images held out."""
        return max(SETTINGS, key=lambda setting: self.scores(folder_of(seed, setting), "held_out")["mean_iou"])

    def score_with_dense_crf(self, folder):
        """Mean-field inference on top of the scores, in the same net."""
        from caffe.proto import caffe_pb2
        from google.protobuf import text_format

        path = self.scores_path(folder, suffix="_dense_crf")
        if path.exists():
            return
        config = self.output / folder / "config" / NETWORK
        net = text_format.Parse((config / "test_val.prototxt").read_text(), caffe_pb2.NetParameter())
        crf = {"name": "crf", "type": "Python", "bottom": ["fc8_interp", "data_dim", "data"], "top": ["crf"]}
        crf["python_param"] = {"module": "rloss_caffe.layers", "layer": "DenseCRF", "param_str": DENSE_CRF}
        layers = [layer for layer in net.layer if layer.type != "Silence" and layer.name != "accuracy"]
        accuracy = next(layer for layer in net.layer if layer.name == "accuracy")
        accuracy.bottom[0] = "crf"
        net = caffe_pb2.NetParameter(layer=[*layers, caffe_pb2.LayerParameter(**crf), accuracy])
        (config / "test_dense_crf.prototxt").write_text(text_format.MessageToString(net))
        images = len(read_lines(self.output / "list" / "val.txt"))
        command = [sys.executable, "-m", "rloss_caffe", "test", f"--model={config / 'test_dense_crf.prototxt'}"]
        command += [f"--weights={self.weights(folder)}", f"--iterations={images}", f"--json={path}"]
        environment = dict(os.environ, GLOG_minloglevel="2", PYTHONPATH=str(HERE.parents[1]))
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)

    def report(self, seeds, setting):
        results = {"setting": setting, "iterations": self.iterations, "runs": {}, "tuning": []}
        for candidate in [CONTROL, *SETTINGS]:
            score = self.scores(folder_of(seeds[0], candidate), "held_out")["mean_iou"]
            results["tuning"].append({"setting": candidate, "mean_iou": score})
        for seed in seeds:
            for name, folder in self.folders(seed, setting).items():
                self.score_with_dense_crf(folder)
                plain, with_crf = self.scores(folder), self.scores(folder, suffix="_dense_crf")
                results["runs"][f"seed{seed}/{name}"] = {"plain": plain, "dense_crf": with_crf}
        text = tables.report(results, seeds)
        (self.output / "results.md").write_text(text)
        (self.output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(text)

    def folders(self, seed, setting):
        """Of the runs that are compared, by the names they have in tables.RUNS."""
        names = {name: f"seed{seed}/{name}" for name in ("phase_one", "full")}
        return dict(names, phase_two=folder_of(seed, setting), control=folder_of(seed, CONTROL))

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


def read_lines(path):
    return [line for line in path.read_text().splitlines() if line.strip()]


if __name__ == "__main__":
    main()
