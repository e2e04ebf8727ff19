import runpy

globals().update(runpy.run_module("rloss_caffe.commands.lists", run_name=__name__))
