"""From scribbles to label maps: what a loss makes of an image, without training, and the folder that strokes lie in."""
