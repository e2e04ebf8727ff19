import sys

from rloss_caffe.commands import main

sys.exit(main(["plot", *sys.argv[1:]]))
