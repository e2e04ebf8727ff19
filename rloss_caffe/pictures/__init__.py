"""Figures, contact sheets, and the training logs that they are drawn from."""
