import runpy

globals().update(runpy.run_module("rloss_caffe.commands.show", run_name=__name__))
