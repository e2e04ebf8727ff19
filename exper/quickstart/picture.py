"""One picture a photograph: what was given, what was learned, what the loss asked for."""

import numpy as np
from settings import BANDWIDTHS

from rloss_caffe.datasets import examples
from rloss_caffe.losses.gradients import densecrf_gradients
from rloss_caffe.pictures.overlays import draw_scribbles

# Colour-blind-safe (Okabe and Ito), background black.
PALETTE = np.array([[0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66]], np.uint8)


def score_gradient(photo, probabilities):
    """Gradient of the DenseCRF loss with respect to the class scores before the softmax, (K, H, W)."""
    blob = examples.as_blob(examples.load_photo(photo))
    return densecrf_gradients(blob, probabilities, **BANDWIDTHS).score


def overlay(image, label):
    """A label map in colour over a grey version of the photograph; 255 shows the photograph."""
    result = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    shown = label != examples.IGNORE
    result[shown] = 0.4 * result[shown] + 0.6 * PALETTE[label[shown]]
    return result.astype(np.uint8)


def write_picture(path, photo, probabilities, scores):
    """Write six panels: image, scribbles, both phases, the loss's gradient at the end of phase one, the mask."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    image = examples.load_photo(photo)
    scribbles, mask = (examples.load_label(photo, kind) for kind in ("scribbles", "masks"))
    present = [int(k) for k in np.unique(mask) if k != examples.IGNORE]
    subject = max(k for k in present if k > 0)
    gradient = score_gradient(photo, probabilities["phase_one"])[subject]
    limit = np.percentile(np.abs(gradient), 99.5) or 1

    height, width = image.shape[:2]
    figure, axes = plt.subplots(2, 3, figsize=(12, 8 * height / width + 1.4), layout="constrained")
    phase_one, phase_two = (overlay(image, probabilities[n].argmax(axis=0)) for n in ("phase_one", "phase_two"))
    panels = [
        ("photograph", image),
        (
            f"scribbles ({100 * np.mean(scribbles != examples.IGNORE):.1f} % of pixels)",
            draw_scribbles(image, scribbles, PALETTE),
        ),
        (f"phase one, cross-entropy: mIoU {scores['phase_one']:.1f}", phase_one),
        (f"gradient for the score of '{examples.CLASSES[subject]}'", None),
        (f"phase two, with DenseCRF loss: mIoU {scores['phase_two']:.1f}", phase_two),
        (f"mask, for evaluation (full: {scores['full']:.1f})", overlay(image, mask)),
    ]
    for axis, (title, picture) in zip(axes.flat, panels):
        axis.set_title(title, fontsize=11)
        axis.set_xticks([])
        axis.set_yticks([])
        if picture is not None:
            axis.imshow(picture)
            continue
        shown = axis.imshow(gradient / limit, cmap="RdBu_r", vmin=-1, vmax=1)
        bar = figure.colorbar(shown, cax=axis.inset_axes([0.1, -0.06, 0.8, 0.03]), orientation="horizontal", ticks=[])
        bar.ax.set_xlabel("pushes the class up     0     pushes it down", fontsize=9)
    handles = [Patch(color=PALETTE[k] / 255.0, label=examples.CLASSES[k]) for k in range(len(examples.CLASSES))]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=100)
    plt.close(figure)
