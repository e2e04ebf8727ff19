#!/bin/sh
# The quickstart in PyTorch: makes .venv-torch and runs exper/quickstart_torch/run.py in it.
# Usage: tools/quickstart_torch.sh [options of run.py]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
torch_environment
"$ROOT/.venv-torch/bin/python" "$ROOT/exper/quickstart_torch/run.py" "$@"
