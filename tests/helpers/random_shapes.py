"""What the laws of the losses are tested with: random batches of small images, and bandwidths."""

from hypothesis import strategies as st

RANDOM_SHAPES = {
    "n": st.integers(1, 3),
    "c": st.integers(1, 4),
    "k": st.integers(1, 34),
    "height": st.integers(1, 12),
    "width": st.integers(1, 12),
    "xy": st.floats(0.5, 100),
    "rgb": st.floats(0.5, 100),
    "seed": st.integers(0, 100),
}
