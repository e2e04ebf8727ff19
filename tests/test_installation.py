"""What the package says of its own installation: where its extras can be had from."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rloss_caffe
from rloss_caffe import installation

PACKAGE = Path(rloss_caffe.__file__).parent


def test_a_checkout_is_named():
    if not (PACKAGE.parent / "setup.py").exists():
        pytest.skip("the package is not imported from a checkout here")
    words = shlex.split(installation.add_extra("pictures"))
    assert words[:6] == [sys.executable, "-m", "pip", "install", "-e", f"{PACKAGE.parent}[pictures]"]


@pytest.mark.parametrize("gone", [False, True])
def test_an_installation_names_where_it_came_from(tmp_path, gone):
    """A copy of the package without setup.py beside it, with the metadata that pip writes."""
    source = tmp_path / "a folder"
    if not gone:
        source.mkdir()
    site = tmp_path / "site"
    (site / "rloss_caffe").mkdir(parents=True)
    for name in ("__init__.py", "version.py", "installation.py"):
        shutil.copy(PACKAGE / name, site / "rloss_caffe")
    info = site / "rloss_caffe-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Name: rloss_caffe\nVersion: 9\n"
        "Requires-Dist: matplotlib>=3.3; extra == \"pictures\"\nRequires-Dist: pillow (>=8) ; extra == 'pictures'\n"
        'Requires-Dist: numpy<2; (python_version < "3.10") and extra == "caffe"\nRequires-Dist: pyyaml\n'
    )
    (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {}}))
    code = "from rloss_caffe.installation import add_extra; print(add_extra('pictures'))"
    environment = dict(os.environ, PYTHONPATH=str(site))
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    wanted = ["matplotlib>=3.3", "pillow>=8"] if gone else [f"{source}[pictures]"]
    assert shlex.split(run.stdout)[4 : 4 + len(wanted)] == wanted


def test_the_numpy_of_a_caffe_is_kept():
    pytest.importorskip("caffe", reason="needs pycaffe")
    numpy = pytest.importorskip("numpy")
    command = shlex.split(installation.add_extra("images"))
    assert f"numpy=={numpy.__version__}" in command or "-c" in command  # or the constraints of a Caffe of one's own
    assert not any(word.startswith("numpy") for word in shlex.split(installation.add_extra("caffe")))
