#!/bin/sh
# One command from a fresh clone to a trained network: makes .venv with Caffe and runs exper/quickstart/run.py.
# Usage: tools/quickstart.sh [options of run.py]      RLOSS_PYTHON=/path/to/python uses that Python's own Caffe.
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
caffe_environment
"$ROOT/.venv/bin/python" "$ROOT/exper/quickstart/run.py" "$@"
say "'. $ROOT/.venv/bin/activate' puts rloss-caffe and this python on PATH"
