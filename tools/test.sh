#!/bin/sh
# The tests, in the environment of the quickstart. Usage: tools/test.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
caffe_environment
cd "$ROOT"
GLOG_minloglevel=${GLOG_minloglevel:-2} exec .venv/bin/python -m pytest "$@"
