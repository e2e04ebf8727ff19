#!/bin/sh
# Run the kernels' tests on other versions of Numba than the environment's. Without arguments: the oldest and the newest
# that Python 3.8, 3.9 and 3.13 take, as far as these Pythons are installed.
#
#   tools/test_numba_versions.sh [PYTHON:NUMBA ...]      e.g. tools/test_numba_versions.sh 3.9:0.57.1 3.13:newest
#
# Every pair gets an environment in .venv-numba/, kept for the next time. RLOSS_KERNEL_TESTS names other tests to run.
set -u
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
cd "$ROOT"
[ $# -gt 0 ] || set -- 3.8:0.56.0 3.8:newest 3.9:0.56.0 3.9:newest 3.13:0.61.0 3.13:newest
tests=${RLOSS_KERNEL_TESTS:-tests/filtering tests/numerics tests/losses}
failed=0

for pair in "$@"; do
    version=${pair##*:} environment=.venv-numba/${pair%%:*}-${pair##*:}
    python=$(find_python "${pair%%:*}") || { echo "== $pair: there is no Python ${pair%%:*}, left out"; continue; }
    requirement="numba==$version"
    [ "$version" != newest ] || requirement="numba"
    if [ ! -e "$environment/complete" ] || ! "$environment/bin/python" -c 'import xdist' 2>/dev/null; then
        rm -rf "$environment"
        "$python" -m venv "$environment" \
            && "$environment/bin/pip" install --quiet --only-binary :all: \
                "$requirement" pytest pytest-xdist hypothesis scipy protobuf pyyaml \
            && touch "$environment/complete" || { echo "== $pair: the environment could not be made"; failed=1; continue; }
    fi
    "$environment/bin/python" -c 'import sys, numba, llvmlite, numpy; print("== Python", sys.version.split()[0], "numba", numba.__version__, "llvmlite", llvmlite.__version__, "numpy", numpy.__version__)'
    # The warning that begins so tells that the generated kernels do not compile, and their twins took over.
    # shellcheck disable=SC2086
    (
        export NUMBA_CACHE_DIR="$ROOT/$environment/cache" PYTHONPATH="$ROOT"
        run_tests "$environment/bin/python" -W error:rloss_caffe:RuntimeWarning -p no:cacheprovider $tests
    ) || failed=1
done
exit $failed
