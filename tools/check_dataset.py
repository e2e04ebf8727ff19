import sys

from rloss_caffe.commands import main

sys.exit(main(["check", *sys.argv[1:]]))
