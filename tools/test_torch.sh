#!/bin/sh
# The tests that need PyTorch, in .venv-torch. Where .venv has Caffe, what its layers make of a batch is written first,
# to be compared with. Usage: tools/test_torch.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
temporary_folder

torch_environment
cd "$ROOT"
if .venv/bin/python -c 'import caffe' 2>/dev/null; then
    export RLOSS_CAFFE_RESULTS="$work/caffe_results.npz"
    GLOG_minloglevel=2 .venv/bin/python tests/helpers/caffe_results.py "$RLOSS_CAFFE_RESULTS"
else
    say "there is no Caffe in .venv, so PyTorch is not compared with it; tools/test.sh makes it"
fi
[ $# -gt 0 ] || set -- tests/pytorch
run_tests .venv-torch/bin/python "$@"
