#!/bin/sh
# The tests of `rloss-caffe draw` in a headless Chromium, in .venv. Where the browser is missing, and this is root on a
# Debian or Ubuntu, it is installed. Usage: tools/test_draw.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"

browser
caffe_environment
cd "$ROOT"
[ $# -gt 0 ] || set -- tests/drawing
run_tests .venv/bin/python "$@"
