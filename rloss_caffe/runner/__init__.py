"""What the ``caffe`` program does, for a Caffe without one: behind ``rloss-caffe train``, ``test`` and ``time``."""
