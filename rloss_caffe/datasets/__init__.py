"""PASCAL VOC: download, archives, scribbles, lists, checks."""
