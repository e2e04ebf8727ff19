"""How this package was installed, and the command that adds what is missing. It is on no index, so that takes a path."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["add_extra", "pip_install"]


def add_extra(extra: str) -> str:
    """The command that adds an extra of setup.py (``images``, ``pictures``, ``caffe``) to this very Python.

    It names the checkout that the package is imported from, or else what it was installed from, or else the extra's
    requirements. The numpy and protobuf of a Caffe that is there are kept.
    """
    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "setup.py").is_file():
        return pip_install("-e", f"{checkout}[{extra}]", *kept(extra))
    source = installed_from()
    if source:
        return pip_install(f"{source}[{extra}]", *kept(extra))
    return pip_install(*requirements(extra), *kept(extra))


def pip_install(*arguments: str) -> str:
    """A command line of this Python's pip, quoted for a shell."""
    return shlex.join([sys.executable or "python3", "-m", "pip", "install", *arguments])


def installed_from():
    """The folder or file that pip installed the package from, None if it is gone or unknown."""
    try:
        text = importlib.metadata.distribution("rloss_caffe").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    url = urlparse(json.loads(text)["url"] if text else "")
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and path.exists() else None


def requirements(extra):
    """What an extra asks for, from the installed package's metadata."""
    try:
        lines = importlib.metadata.requires("rloss_caffe") or []
    except importlib.metadata.PackageNotFoundError:
        lines = []
    found = [line.partition(";") for line in lines]
    return [
        re.sub(r"[\s()]", "", name) for name, _, marker in found if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", marker)
    ]


def kept(extra):
    """Pins for what a Caffe in this Python needs: pip would replace numpy 1 by numpy 2 for a new OpenCV, say."""
    if extra == "caffe" or importlib.util.find_spec("caffe") is None:
        return []
    pins = []
    for name in ("numpy", "protobuf"):
        try:
            pins.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return pins
