import runpy

globals().update(runpy.run_module("rloss_caffe.commands.gradient", run_name=__name__))
