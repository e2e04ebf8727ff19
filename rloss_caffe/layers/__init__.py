"""The Caffe layers: ``python_param { module: "rloss_caffe.layers" layer: "DenseCRFLoss" }``.

They are loaded on first use, so that the reader of ``param_str`` in this folder can be imported without Caffe.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME_OF = {
    "DenseCRF": "rloss_caffe.layers.dense_crf",
    "DenseCRFLoss": "rloss_caffe.layers.densecrf_loss",
    "ImageSegData": "rloss_caffe.layers.image_seg_data",
    "Interp": "rloss_caffe.layers.interp",
    "KernelCutLoss": "rloss_caffe.layers.kernel_cut_loss",
    "LocalPottsLoss": "rloss_caffe.layers.local_potts_loss",
    "NormalizedCutLoss": "rloss_caffe.layers.normalized_cut_loss",
    "SegAccuracy": "rloss_caffe.layers.seg_accuracy",
    "SelfLabelLoss": "rloss_caffe.layers.self_label_loss",
    "SizeConstraintLoss": "rloss_caffe.layers.size_constraint_loss",
}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rloss_caffe.layers' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME_OF))
