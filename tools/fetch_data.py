import sys

from rloss_caffe.commands import main

sys.exit(main(["fetch", *sys.argv[1:]]))
