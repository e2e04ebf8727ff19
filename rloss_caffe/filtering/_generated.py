"""The inner loops of the lattice as generated code; `_plain` has the same names."""

from rloss_caffe.filtering._embed import embed_lanes
from rloss_caffe.filtering._rows import add_row, blur_row, clear_row, load_tile, store_tile, sum_pairs

__all__ = ["NAME", "add_row", "blur_row", "clear_row", "embed_lanes", "load_tile", "store_tile", "sum_pairs"]

NAME = "generated"
