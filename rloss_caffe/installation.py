"""How this package was installed, and the command that adds what is missing: it is on no index, but has a path."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse

__all__ = ["add_extra", "pip_install"]

PACKAGE = Path(__file__).resolve().parent


def add_extra(extra: str) -> str:
    """The command that adds an extra of setup.py (``images``, ``pictures``, ``caffe``) to this very Python.

    It names the checkout that the package is imported from, or else what it was installed from, or else the extra's
    requirements. The numpy and protobuf of a Caffe that is there are kept: pip would put numpy 2 over numpy 1 for a
    new OpenCV, say.
    """
    kept = [] if extra == "caffe" else _kept()
    if (PACKAGE.parent / "setup.py").is_file():
        return pip_install("-e", f"{PACKAGE.parent}[{extra}]", *kept)
    source = _source()
    if source:
        return pip_install(f"{source}[{extra}]", *kept)
    return pip_install(*_requirements(extra), *kept)


def pip_install(*arguments: str) -> str:
    """A command line of this Python's pip, quoted for a shell."""
    return " ".join(map(shlex.quote, [sys.executable or "python3", "-m", "pip", "install", *arguments]))


def _source():
    """The folder or file that pip installed the package from, None if it is gone or unknown."""
    try:
        text = importlib.metadata.distribution("rloss_caffe").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    url = urlparse(json.loads(text)["url"] if text else "")
    path = Path(unquote(url.path))
    return path if url.scheme == "file" and path.exists() else None


def _requirements(extra):
    """What an extra asks for, from the installed package's metadata."""
    try:
        lines = importlib.metadata.requires("rloss_caffe") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [line.partition(";") for line in lines]
    of_extra = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    return [re.sub(r"[\s()]", "", name) for name, _, marker in found if of_extra.search(marker)]


def _kept():
    """What keeps the versions that the Caffe of this Python needs, empty without one."""
    constraints = Path(sys.prefix) / "constraints.txt"
    if constraints.exists():  # tools/own_caffe.py wrote it
        return ["-c", str(constraints)]
    if importlib.util.find_spec("caffe") is None:
        return []
    pins = []
    for name in ("numpy", "protobuf"):
        try:
            pins.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return pins
