import runpy

globals().update(runpy.run_module("rloss_caffe.commands.plot", run_name=__name__))
