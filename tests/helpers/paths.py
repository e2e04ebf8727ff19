"""Where the project and the reference material are."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("RLOSS_SHARED", ROOT.parent / "shared"))


def shared_path(relative):
    """A path below ../shared; the test is skipped where it is missing (it never is part of the project)."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"needs the reference material {relative}, which is not distributed with the project")
    return path
