#!/bin/sh
# The tests of `rloss-caffe draw` in a headless Chromium, in .venv. Where the browser is missing, and this is root on a
# Debian or Ubuntu, it is installed. Usage: tools/test_draw.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"

if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing chromium and chromium-driver"
        apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null \
            || say "they could not be installed"
    else
        say "no chromium with its chromedriver here, so the tests of the page are left out;" \
            "on Debian: apt-get install chromium chromium-driver"
    fi
fi
caffe_environment
cd "$ROOT"
[ $# -gt 0 ] || set -- tests/drawing
run_tests .venv/bin/python "$@"
