"""Two lists of the same images, with their full masks and with scribbles."""

from rloss_caffe.data.lists import read_list


def read_pairs(masks, scribbles, data_root):
    """A pair of entries for each image; ValueError if the lists differ."""
    lists = [read_list(path, data_root) for path in (masks, scribbles)]
    if len(lists[0]) != len(lists[1]):
        raise ValueError(f"{masks} has {len(lists[0])} images, {scribbles} has {len(lists[1])}")
    for one, other in zip(*lists):
        if one.image != other.image:
            raise ValueError(f"{masks}, line {one.line}, has {one.image} where {scribbles} has {other.image}")
    return list(zip(*lists))
