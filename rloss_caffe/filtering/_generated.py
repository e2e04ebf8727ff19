"""The inner loops of the lattice as generated code; `_plain` has the same names."""

from rloss_caffe.filtering._embed import embed_lanes
from rloss_caffe.filtering._rows import blur_row, load_tile, slice_pixel, splat_pixel, store_tile, sum_pairs

__all__ = [
    "NAME",
    "blur_row",
    "embed_lanes",
    "load_tile",
    "slice_pixel",
    "splat_pixel",
    "store_tile",
    "sum_pairs",
]

NAME = "generated"
