import runpy

globals().update(runpy.run_module("rloss_caffe.datasets.scribbles", run_name=__name__))
