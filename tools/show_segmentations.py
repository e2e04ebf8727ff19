import sys

from rloss_caffe.commands import main

sys.exit(main(["show", *sys.argv[1:]]))
