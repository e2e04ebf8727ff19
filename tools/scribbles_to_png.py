import sys

from rloss_caffe.commands import main

sys.exit(main(["scribbles", *sys.argv[1:]]))
