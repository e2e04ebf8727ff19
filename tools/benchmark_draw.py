#!/usr/bin/env python
"""How long `rloss-caffe draw` takes after a stroke: to have it on the disk, to the coarse and to the full preview.

    python tools/benchmark_draw.py [--strokes 5] [--size 500x375] [--losses densecrf,kernel_cut]

A real server process, asked as the page asks it: a stroke is saved, then both answers are waited for; all are counted
from the stroke on. Medians and the slowest, in milliseconds, for each loss. Kernels are compiled before. Run it on a
machine that does nothing else.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlparse

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rloss_caffe.data.reading import import_cv2  # noqa: E402
from rloss_caffe.datasets import examples  # noqa: E402
from rloss_caffe.drawing.previews import CHOICES, described  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--strokes", type=int, default=5)
    parser.add_argument("--size", default="500x375", metavar="WxH")
    parser.add_argument("--losses", default=",".join(CHOICES), metavar="A,B", help="default: all")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        cv2 = import_cv2()
        photo = cv2.resize(examples.load_photo("coffee")[:, :, ::-1], (width, height), interpolation=cv2.INTER_AREA)
        cv2.imwrite(f"{folder}/coffee.jpg", photo)
        command = [sys.executable, "-m", "rloss_caffe", "draw", folder, "--classes", "background,cup"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
            try:
                address = urlparse(next(filter(None, (re.search(r"http://\S+", line) for line in server.stdout)))[0])
                measure(address, width, height, arguments.strokes, arguments.losses.split(","))
            finally:
                server.kill()


def ask(address, method, path, value):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=600)
    connection.request(method, address.path + path, json.dumps(value), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(body.decode(errors="replace"))
    return body


def measure(address, width, height, n_strokes, losses):
    page = {"page": "benchmark"}
    number = 0

    def stroke(label, row):
        nonlocal number
        number += 1
        box, runs = [width // 8, row, width // 8, 3], [label, 3 * (width // 8)]
        saved = ask(address, "PUT", "labels/0", {**page, "version": 0, "sequence": number, "box": box, "runs": runs})
        return json.loads(saved)["version"]

    # The first save names the version that is there; later ones are this page's own.
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("GET", f"{address.path}versions/0")
    version = json.loads(connection.getresponse().read())["version"]
    first = {"box": [2, 2, 9, 3], "runs": [0, 27], "sequence": 0}
    ask(address, "PUT", "labels/0", {**page, "version": version, **first})
    print(f"{width} x {height}; ms after a stroke, median (slowest)\n{'':22} {'saved':>14} {'coarse':>14} {'full':>14}")
    for choice in losses:
        sliders = described()["choices"][choice]["sliders"]
        wish = {
            **page, "photo": 0, "choice": choice, "options": {each["name"]: each["default"] for each in sliders},
            "push": 0.6, "net": False, "gradient": -1, "at_start": False,
        }  # fmt: skip
        times = []
        for k in range(n_strokes + 1):
            started = time.perf_counter()
            version = stroke(1, height // 3 + 4 * k)
            saved = time.perf_counter() - started
            ask(address, "POST", "preview", {**wish, "version": version, "full": False})
            coarse = time.perf_counter() - started
            ask(address, "POST", "preview", {**wish, "version": version, "full": True})
            times.append((saved, coarse, time.perf_counter() - started))
        times = 1e3 * np.array(times[1:])  # the first one compiles, and makes lattices
        middle, slowest = np.median(times, axis=0), times.max(axis=0)
        cells = [f"{a:.0f} ({b:.0f})".rjust(14) for a, b in zip(middle, slowest)]
        print(f"{CHOICES[choice].label:22} {' '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
