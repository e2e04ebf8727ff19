#!/bin/sh
# The tests that need TensorFlow, Keras and JAX, in .venv-tensorflow. Where .venv has Caffe, what its layers make of a
# batch is written first, to be compared with. Usage: tools/test_tensorflow.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
temporary_folder

tensorflow_environment
cd "$ROOT"
caffe_results
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
[ $# -gt 0 ] || set -- tests/keras_front
run_tests .venv-tensorflow/bin/python "$@"
