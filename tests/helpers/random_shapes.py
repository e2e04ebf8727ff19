"""What the laws of the losses are tested with: random batches of small images, and bandwidths.

Images are grey or in colour, as the lattice's kernels are compiled for each number of dimensions and of classes' rows.
"""

from hypothesis import strategies as st

RANDOM_SHAPES = {
    "n": st.integers(1, 3),
    "c": st.sampled_from([1, 3]),
    "k": st.integers(1, 34),
    "height": st.integers(1, 12),
    "width": st.integers(1, 12),
    "xy": st.floats(0.5, 100),
    "rgb": st.floats(0.5, 100),
    "seed": st.integers(0, 100),
}
