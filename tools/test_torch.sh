#!/bin/sh
# The tests that need PyTorch, those of Keras on it with them, in .venv-torch. Where .venv has Caffe, what its layers
# make of a batch is written first, to be compared with. Usage: tools/test_torch.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
temporary_folder

torch_environment
cd "$ROOT"
caffe_results
[ $# -gt 0 ] || set -- tests/pytorch tests/keras_front/test_keras_backends.py
run_tests .venv-torch/bin/python "$@"
