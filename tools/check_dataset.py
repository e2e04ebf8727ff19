import runpy

globals().update(runpy.run_module("rloss_caffe.commands.check", run_name=__name__))
