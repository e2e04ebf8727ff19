#!/bin/sh
# The tests, in the environment of the quickstart. Usage: tools/test.sh [options of pytest], '-n 0' for one process
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
caffe_environment
cd "$ROOT"
export GLOG_minloglevel="${GLOG_minloglevel:-2}"
run_tests .venv/bin/python "$@"
