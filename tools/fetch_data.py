import runpy

globals().update(runpy.run_module("rloss_caffe.commands.fetch", run_name=__name__))
