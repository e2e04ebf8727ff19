#!/bin/sh
# The quickstart in Keras: makes .venv-tensorflow and runs exper/quickstart_keras/run.py in it.
# Usage: tools/quickstart_keras.sh [options of run.py]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
tensorflow_environment
"$ROOT/.venv-tensorflow/bin/python" "$ROOT/exper/quickstart_keras/run.py" "$@"
