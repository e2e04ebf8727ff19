"""``rloss-caffe provide-bilateralfilter`` in virtual environments that the tests make."""

import importlib.machinery
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from helpers.paths import ROOT

USE = """
import numpy as np
from bilateralfilter import bilateralfilter, bilateralfilter_batch
values, outs = np.ones(2 * 4 * 5, np.float32), np.zeros(2 * 4 * 5, np.float32)
bilateralfilter_batch(np.full(2 * 3 * 4 * 5, 50, np.float32), values, outs, 2, 1, 4, 5, 15.0, 8.0)
print((outs > 0).all())
"""


class Environment:
    """A Python of its own, in which this checkout and what it needs can be imported as if they were installed."""

    def __init__(self, folder):
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        self.site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        self.module = self.site / "bilateralfilter.py"
        self.needed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        self.link = self.site / "needed.pth"
        self.link.write_text("\n".join([str(ROOT), *self.needed]) + "\n")
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()

    def run(self, *words, **environment):
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        return subprocess.run(
            [str(self.python), *map(str, words)],
            cwd=self.elsewhere,
            env=dict(kept, **environment),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def provide(self, *words, status=0, **environment):
        done = self.run("-m", "rloss_caffe", "provide-bilateralfilter", *words, **environment)
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture
def environment(tmp_path):
    pytest.importorskip("venv", reason="no virtual environments here")
    if not os.path.exists("/bin/sh"):
        pytest.skip("written for the layout of environments on Unix")
    return Environment(tmp_path / "environment")


def test_there_and_away_again(environment):
    assert environment.run("-c", "import bilateralfilter").returncode == 1
    assert environment.provide() == f"written: {environment.module}\n"
    assert len(environment.module.read_text().splitlines()) == 3
    used = environment.run("-c", USE)
    assert (used.returncode, used.stdout) == (0, "True\n"), used.stderr
    before = environment.module.stat()
    assert environment.provide() == f"it is there already: {environment.module}\n"
    assert environment.module.stat().st_mtime_ns == before.st_mtime_ns
    assert environment.provide("--remove") == f"removed: {environment.module}\n"
    assert not list(environment.site.rglob("bilateralfilter*"))
    assert "there is nothing to remove" in environment.provide("--remove")
    assert environment.run("-c", "import bilateralfilter").returncode == 1


@pytest.mark.parametrize("kind", ["module", "package", "extension", "edited", "broken link"])
def test_another_one_in_its_place_is_kept(environment, kind):
    if kind == "edited":
        environment.provide()
        other = environment.module
        other.write_text(other.read_text() + "print('mine')\n")
    elif kind == "broken link":
        other = environment.module
        other.symlink_to(environment.site / "nothing")
    else:
        suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
        name = {"module": "bilateralfilter.py", "package": "bilateralfilter/__init__.py"}.get(kind)
        other = environment.site / (name or f"bilateralfilter{suffix}")
        other.parent.mkdir(exist_ok=True)
        other.write_text("original = True\n")
    before = None if kind == "broken link" else other.read_text()
    message = environment.provide(status=1)
    assert "another module bilateralfilter, which stays" in message and str(other) in message
    status = 1 if other == environment.module else 0
    environment.provide("--remove", status=status)
    assert os.path.lexists(other) and before == (None if kind == "broken link" else other.read_text())
    assert [path for path in environment.site.rglob("bilateralfilter*") if path.parent == environment.site] == [
        other if other.parent == environment.site else other.parent
    ]


def test_another_one_elsewhere_on_the_path_is_not_hidden(environment, tmp_path):
    folder = tmp_path / "build" / "lib"
    folder.mkdir(parents=True)
    (folder / "bilateralfilter.py").write_text("")
    message = environment.provide(status=1, PYTHONPATH=str(folder))
    assert str(folder / "bilateralfilter.py") in message and not environment.module.exists()
    # A later entry of the path is found as well, though the first one is ours.
    environment.provide()
    assert str(folder) in environment.provide(status=1, PYTHONPATH=f"{environment.site}{os.pathsep}{folder}")


def test_a_folder_of_that_name_is_not_in_the_way(environment, tmp_path):
    """As in the authors' checkout, where the sources lie in wrapper/bilateralfilter: no module, so it hides none."""
    (environment.elsewhere / "bilateralfilter").mkdir()
    environment.provide()
    used = environment.run("-c", USE)
    assert (used.returncode, used.stdout) == (0, "True\n"), used.stderr


def test_into_a_folder(environment, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    text = environment.provide("--target", folder)
    assert f"written: {folder / 'bilateralfilter.py'}\n" in text and "add it to PYTHONPATH" in text
    assert not environment.module.exists()
    used = environment.run("-c", USE, PYTHONPATH=str(folder))
    assert (used.returncode, used.stdout) == (0, "True\n"), used.stderr
    assert "PYTHONPATH" not in environment.provide("--target", folder, PYTHONPATH=str(folder))
    environment.provide("--remove", "--target", folder)
    assert not list(folder.glob("bilateralfilter.py"))


def test_a_folder_that_cannot_be_written_into(environment, tmp_path):
    message = environment.provide("--target", tmp_path / "missing", status=1)
    assert f"cannot change {tmp_path / 'missing'}: No such file or directory; " in message
    assert "--target FOLDER takes a folder that you may write to" in message
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the rest needs another user")
    environment.site.chmod(0o555)
    try:
        message = environment.provide(status=1)
    finally:
        environment.site.chmod(0o755)
    assert f"cannot change {environment.site}: Permission denied" in message
    assert not list(environment.site.glob("*bilateralfilter*")) and not list(environment.site.glob("*.part"))


def test_not_where_the_package_itself_cannot_be_imported(environment):
    """A module that imports rloss_caffe is of no use where that is found in the current folder only."""
    if not (ROOT / "setup.py").exists() or any(Path(folder, "rloss_caffe").exists() for folder in environment.needed):
        pytest.skip("the package is installed here, and not imported from a checkout")
    environment.link.write_text("\n".join(environment.link.read_text().splitlines()[1:]) + "\n")
    done = subprocess.run(
        [str(environment.python), "-m", "rloss_caffe", "provide-bilateralfilter"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and not environment.module.exists()
    assert "rloss_caffe must be installed first" in done.stderr and "No module named 'rloss_caffe'" in done.stderr
    assert "-m pip install -e" in done.stderr
