import sys

from rloss_caffe.commands import main

sys.exit(main(["gradient", *sys.argv[1:]]))
