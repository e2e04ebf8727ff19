"""Where PyTorch is not installed, `import torch` must fail rather than find the folder of that name here."""

import importlib.util
import sys

if getattr(importlib.util.find_spec("torch"), "origin", None) is None:

    class _NoTorch:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torch":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    sys.meta_path.insert(0, _NoTorch)
