"""What a quickstart shows at its end: tables of scores, one picture a photograph, or in a line what went wrong."""

import sys

import numpy as np

from rloss_caffe import densecrf_loss
from rloss_caffe.datasets import examples
from rloss_caffe.numerics.confusion import ConfusionMatrix
from rloss_caffe.pictures.figures import check_matplotlib


def compile_kernels():
    """Let the package compile before the first progress bar."""
    images, segmentations = np.full((1, 3, 8, 8), 50.0), np.full((1, len(examples.CLASSES), 8, 8), 0.2)
    densecrf_loss(images, segmentations, 5, 5).gradient()


def confusion(predictions):
    """Of the classes, over some photographs, from their probabilities {photo: (K, H, W)}."""
    result = ConfusionMatrix(len(examples.CLASSES))
    for photo, probabilities in predictions.items():
        result.add(probabilities[None], examples.load_label(photo, "masks")[None], [examples.IGNORE])
    return result


def mean_iou(predictions):
    """Mean IoU in per cent over the classes that occur."""
    return 100 * confusion(predictions).mean_iou()


def print_tables(trainings, results):
    """The IoU of each training, by class and by photograph, and what the losses of phase two gain.

    Parameters
    ----------
    trainings : dict of settings.Training
    results : dict
        Of each training by its name, the class probabilities of every photograph, {photo: (K, H, W)}.
    """
    scores = {name: mean_iou(predictions) for name, predictions in results.items()}
    width = max(len(training.title) + 1 for training in trainings.values())
    print(f"\n{'IoU in %':{width}}" + "".join(f"{name:>12}" for name in ["mean", *examples.CLASSES]))
    for name, training in trainings.items():
        values = [scores[name], *(100 * confusion(results[name]).class_iou())]
        print(f"{training.title:{width}}" + "".join(f"{value:12.1f}" for value in values))
    print(f"\n{'mean IoU in % of each photo':{width}}" + "".join(f"{photo:>12}" for photo in examples.PHOTOS))
    for name, training in trainings.items():
        values = [mean_iou({photo: probabilities}) for photo, probabilities in results[name].items()]
        print(f"{training.title:{width}}" + "".join(f"{value:12.1f}" for value in values))
    gap = scores["full"] - scores["phase_one"]
    print()
    for name in [name for name, training in trainings.items() if training.loss]:
        gain = scores[name] - scores["phase_one"]
        words = trainings[name].title.split(" with ")[1]
        print(f"{words[0].upper()}{words[1:]} gains {gain:.1f} points over phase one, ", end="")
        print(f"{scores[name] - scores['control']:.1f} over the control.")
        if gap > 0:
            print(f"It closes {100 * gain / gap:.0f} % of the gap of {gap:.1f} points to full supervision.")


def write_pictures(results, output):
    """One picture for each photograph; returns their number, 0 where none can be drawn."""
    from picture import write_picture

    try:
        check_matplotlib()
    except ImportError as error:
        print(f"\nno pictures: {error}")
        return 0
    for photo in examples.PHOTOS:
        write_picture(
            output / f"{photo}.png",
            photo,
            {name: results[name][photo] for name in ("phase_one", "phase_two")},
            {name: mean_iou({photo: results[name][photo]}) for name in ("phase_one", "phase_two", "full")},
        )
    return len(examples.PHOTOS)


def run(main):
    """Call a quickstart's `main`; what goes wrong becomes one line and status 1."""
    try:
        main()
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        sys.exit(f"quickstart failed: {type(error).__name__}: {error}")
