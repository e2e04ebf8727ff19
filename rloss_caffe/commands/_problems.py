"""How commands tell what is wrong with a data set."""

from collections import Counter

from rloss_caffe.datasets.checking import write_problems

__all__ = ["report"]

_SHOWN = 10


def report(problems, path, title):
    """Print how many problems of which kind there are, and the first ten; write all to a file.

    `problems` are pairs of a list's name and a Problem. A file of an earlier run is removed when there are none.
    """
    lines = write_problems(problems, path)
    if not problems:
        return
    kinds = Counter(problem.kind for _, problem in problems)
    print(f"{title}: " + ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common()))
    for line in lines[:_SHOWN]:
        print(f"  {line}")
    if len(lines) > _SHOWN:
        print(f"  ... and {len(lines) - _SHOWN} more")
    print(f"wrote {path}: all of them")
