"""A seed out of Caffe's own random generator, so that a solver's ``random_seed`` decides Python layers' numbers too."""

import os
import tempfile

import caffe

__all__ = ["draw_seed"]

# pycaffe has no access to the generator, but fillers draw from it. A float32 holds 24 bits.
_NET = """
layer { name: "seed" type: "DummyData" top: "seed"
  dummy_data_param { shape { dim: 2 } data_filler { type: "uniform" min: 0 max: 65536 } } }
"""


def draw_seed():
    """A whole number from 0 to 2**32 - 1."""
    handle, path = tempfile.mkstemp(suffix=".prototxt")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(_NET)
        net = caffe.Net(path, caffe.TRAIN)
        net.forward()
        high, low = (int(value) & 0xFFFF for value in net.blobs["seed"].data)
    finally:
        os.unlink(path)
    return high << 16 | low
