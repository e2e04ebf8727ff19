#!/bin/sh
# Does set-up over a Caffe of the user's own leave it alive? Makes an environment with Caffe's wheel, numpy 1.19 and
# protobuf 3.12, as an older distribution of Linux has them, and sets the package up over it. Usage: tools/test_own_caffe.sh
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
temporary_folder

python=$(find_python 3.9 3.8) || die "Caffe's wheel needs Python 3.9 or 3.8, and none was found that runs"
"$python" -m venv "$work/own"
"$work/own/bin/pip" install --quiet --disable-pip-version-check \
    kendryte-caffe==1.0.0.20210829 numpy==1.19.5 protobuf==3.12.4 scipy==1.6.0 pyyaml==5.3.1 \
    || die "the older packages could not be installed; pip's message above says why"

versions() {
    "$1" -c 'import caffe, google.protobuf, numpy, scipy, skimage
print(*(f"{m.__name__} {m.__version__}," for m in (numpy, google.protobuf, scipy, skimage)), caffe.__file__)'
}
before=$(versions "$work/own/bin/python")
export NUMBA_CACHE_DIR="$work/kernels" # the checkout's kernels are another numba's
environment_over "$work/own/bin/python" "$work/over"
after=$(versions "$work/over/bin/python") || die "'import caffe' no longer works over $before"
[ "$before" = "$after" ] || die "set-up replaced what the Caffe needs: $before became $after"
[ "$before" = "$(versions "$work/own/bin/python")" ] || die "set-up changed the environment under it"
"$work/over/bin/rloss-caffe" doctor
say "unchanged: $after"
