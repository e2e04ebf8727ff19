"""A real server process of `rloss-caffe draw`, and a real headless Chromium on its page."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers.children import heed_interrupts
from helpers.paths import ROOT

# Where Debian, Ubuntu and Fedora put them
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COMPILED = 300  # seconds, in which the first preview of a fresh installation has its kernels
DRIVERS = ("chromedriver", "/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver")


@contextlib.contextmanager
def serving(folder, classes, *options):
    """The process and the address that it prints; killed at the end."""
    command = [sys.executable, "-m", "rloss_caffe", "draw", str(folder), "--classes", ",".join(classes), *options]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)), PYTHONUNBUFFERED="1")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(command, **pipes, env=environment, preexec_fn=heed_interrupts)
    try:
        text = ""
        for line in process.stdout:
            text += line
            found = re.search(r"http://\S+", line)
            if found:
                break
        else:
            raise AssertionError(f"the server ended: {text}")
        yield process, found.group()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextlib.contextmanager
def chromium(width=1280, height=800, *options):
    """A driver of a headless Chromium; the test is skipped where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="no selenium, which drives the browser")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = next(filter(None, map(shutil.which, DRIVERS)), None)
    if not browser or not driver:
        pytest.skip("no Chromium with its driver: apt-get install chromium chromium-driver")
    settings = selenium.ChromeOptions()
    settings.binary_location = browser
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *options):
        settings.add_argument(option)
    settings.add_argument(f"--window-size={width},{height}")
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = selenium.chrome.service.Service(driver)
    opened = selenium.Chrome(options=settings, service=service)
    opened.set_script_timeout(60)
    try:
        yield opened
    finally:
        opened.quit()


class Page:
    """The page in a browser, as a user works with it."""

    def __init__(self, driver, address=None):
        self.driver = driver
        if address:
            driver.get(address)
            self.wait_open()

    def wait_open(self):
        """Until a photograph is there, or the page says why not."""
        script = "return Boolean(window.drawing?.state.map) || !document.getElementById('trouble').hidden"
        self.wait(lambda: self.run(script), "the photograph")

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def element(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    def is_shown(self, name):
        return self.element(name).is_displayed()

    def wait(self, condition, what, seconds=60):
        deadline = time.time() + seconds
        while time.time() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited {seconds} s for {what}; the page says: {self.said()}")

    def said(self):
        names = ("name", "saved", "progress", "state", "hint", "trouble", "notice_text")
        return {name: self.text(name) for name in names}

    def keys(self, *keys):
        from selenium.webdriver import ActionChains

        actions = ActionChains(self.driver)
        for key in keys:
            actions.send_keys(key)
        actions.perform()

    def place(self, x, y, pane="strokes"):
        """Where the centre of a pixel of the photograph is in the window."""
        return self.run(
            """const {view} = window.drawing;
            const room = document.getElementById(arguments[2]).getBoundingClientRect();
            return [room.left + room.width / 2 + (arguments[0] + 0.5 - view.x) * view.scale,
                    room.top + room.height / 2 + (arguments[1] + 0.5 - view.y) * view.scale]""",
            x, y, pane,
        )  # fmt: skip

    def stroke(self, points, kind="mouse", button=0, hold=False):
        """Draw along pixels of the photograph with a mouse, a pen or a finger."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        places = [self.place(x, y) for x, y in points]
        pointer = PointerInput(kind, kind)
        builder = ActionBuilder(self.driver, mouse=pointer, duration=0)
        action = builder.pointer_action
        action.move_to_location(*map(round, places[0]))
        action.pointer_down(button=button)
        for place in places[1:]:
            action.move_to_location(*map(round, place))
        if not hold:
            action.pointer_up(button=button)
        builder.perform()

    def labels(self):
        """The label map that the page has."""
        return self._map("window.drawing.state.map")

    def result(self):
        """The label map of the preview."""
        return self._map("window.drawing.state.result")

    def _map(self, name):
        width, height, text = self.run(
            f"""const map = {name} || {{width: 0, height: 0, values: new Uint8Array()}};
            let text = '';
            for (let start = 0; start < map.values.length; start += 8192)
              text += String.fromCharCode(...map.values.subarray(start, start + 8192));
            return [map.width, map.height, text]"""
        )
        return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(height, width)

    def wait_saved(self):
        self.wait(lambda: self.text("saved") == "Saved", "the save")

    def wait_full(self):
        self.wait(lambda: re.fullmatch(r"[0-9.]+ s", self.text("state")), "the preview", COMPILED)

    def problems(self):
        """What the browser's console complains of."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
