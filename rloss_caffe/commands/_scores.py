"""The table behind a SegAccuracy layer: IoU of every class, and the means."""

import json
import os

import numpy as np

from rloss_caffe.data.files import write_text
from rloss_caffe.datasets.voc import class_name

__all__ = ["as_dict", "table", "write_json"]


def table(confusion):
    """The scores of a ConfusionMatrix in per cent, as text."""
    scores = as_dict(confusion)
    rows = [f"{'class':16}{'IoU':>8}{'recall':>8}{'share of pixels':>17}"]
    for name, values in scores["classes"].items():
        rows.append(f"{name:16}{values['iou']:8.2f}{values['recall']:8.2f}{values['share']:17.2f}")
    occurring = len(scores["classes"])
    rows += [
        f"mean IoU over the {occurring} classes that occur: {scores['mean_iou']:.2f}",
        f"the original's mean IoU, over all {confusion.n_classes} classes, those that neither occur nor are predicted "
        f"counting as 100: {scores['mean_jaccard']:.2f}",
        f"pixel accuracy: {scores['pixel_accuracy']:.2f}, mean recall: {scores['mean_recall']:.2f}",
    ]
    return "\n".join(rows)


def as_dict(confusion):
    """The scores of a ConfusionMatrix in per cent, for the classes that occur in the labels."""
    iou, recall = confusion.class_iou(), confusion.class_recall()
    share = confusion.counts.sum(axis=1) / max(confusion.counts.sum(), 1)
    return {
        "mean_iou": 100 * confusion.mean_iou(),
        "mean_jaccard": 100 * confusion.mean_jaccard(),
        "pixel_accuracy": 100 * confusion.pixel_accuracy(),
        "mean_recall": 100 * confusion.mean_recall(),
        "classes": {
            class_name(k, confusion.n_classes): {
                "iou": 100 * iou[k],
                "recall": 100 * recall[k],
                "share": 100 * share[k],
            }
            for k in map(int, np.flatnonzero(confusion.present()))
        },
    }


def write_json(path, matrices):
    """Write the scores of several matrices, by layer name; a missing folder is made."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    scores = {name: as_dict(confusion) for name, confusion in matrices.items()}
    write_text(path, json.dumps(scores, indent=1) + "\n")
