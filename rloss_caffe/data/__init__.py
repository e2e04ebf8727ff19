"""Images and label maps for training: list files, reading, augmentation, and batches made ahead in worker processes.

Nothing here imports Caffe. OpenCV and Pillow, which read the files, are the extra ``rloss_caffe[images]``.
"""
