"""Words of the command line that several commands read: lists, numbers, names of classes."""

import argparse
import math

from rloss_caffe.datasets import voc

__all__ = ["class_names", "find_classes", "numbers", "word_list"]


def word_list(text):
    """``A,B``."""
    return [word.strip() for word in text.split(",")]


def numbers(text):
    """``B,G,R`` or one number."""
    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"expected 1 or 3 values, B,G,R, found {text}")
    return values


def class_names(given, n_classes):
    """The names of all classes: those given; VOC's if that is said, or there are 21; else ``class 0`` ..."""
    if given == ["voc"]:
        return list(voc.CLASSES)
    return given or [voc.class_name(label, n_classes) for label in range(n_classes)]


def find_classes(words, names):
    """The numbers of the classes that words name, by name or number, each once.

    Raises
    ------
    ValueError
        There is no such class.
    """
    found = []
    for word in words:
        label = names.index(word) if word in names else int(word) if word.isdecimal() and len(word) < 4 else -1
        if not 0 <= label < len(names):
            raise ValueError(
                f"--classes: expected names or numbers of {', '.join(names)}, found {word!r}; --names names all classes"
            )
        found.append(label)
    return list(dict.fromkeys(found))
