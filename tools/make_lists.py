import sys

from rloss_caffe.commands import main

sys.exit(main(["lists", *sys.argv[1:]]))
