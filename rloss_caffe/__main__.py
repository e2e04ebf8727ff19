import sys

from rloss_caffe.commands import main

if __name__ == "__main__":
    sys.exit(main())
