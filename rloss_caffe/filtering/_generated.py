"""The inner loops of the lattice as generated code; `_plain` has the same names."""

from rloss_caffe.filtering._embed import copy_lanes, divide_lanes, embed_lanes, fill_lanes, mark_lanes
from rloss_caffe.filtering._rows import (
    blur_row,
    combine_tile,
    load_tile,
    slice_pixel,
    splat_pixel,
    store_tile,
)

__all__ = [
    "NAME",
    "blur_row",
    "combine_tile",
    "copy_lanes",
    "divide_lanes",
    "embed_lanes",
    "fill_lanes",
    "load_tile",
    "mark_lanes",
    "slice_pixel",
    "splat_pixel",
    "store_tile",
]

NAME = "generated"
