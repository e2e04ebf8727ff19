#!/bin/sh
# Is the source distribution whole? Builds it, compares it with what git knows, installs it where there is no checkout,
# and runs its tests there, without Caffe, on the newest Python. Usage: tools/test_sdist.sh [options of pytest]
set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$ROOT/tools/environment.sh"
temporary_folder

python=$(find_python 3.13 3.12 3.11 3.10) || die "no Python from 3.10 to 3.13 was found"
make_environment "$ROOT/.venv-core" "$python" dev
"$ROOT/.venv-core/bin/python" --version
"$ROOT/.venv-core/bin/python" -m build --sdist --outdir "$work" "$ROOT" >"$work/log" 2>&1 || { cat "$work/log" && exit 1; }
mkdir "$work/unpacked"
tar -xzf "$work"/rloss_caffe-*.tar.gz -C "$work/unpacked" --strip-components 1
if git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1; then
    git -C "$ROOT" ls-files | grep -v -e '^\.' | LC_ALL=C sort >"$work/tracked"
    (cd "$work/unpacked" && find . -type f) | sed 's|^\./||' \
        | grep -v -e '^PKG-INFO$' -e '^setup.cfg$' -e '\.egg-info/' | LC_ALL=C sort >"$work/packed"
    diff "$work/tracked" "$work/packed" \
        || die "the source distribution is not what git knows: < is missing, > is too much; see MANIFEST.in"
fi
"$ROOT/.venv-core/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
    "$work"/rloss_caffe-*.tar.gz
# As a packager does it: without the package's own folder, so that the tests can only meet what was installed.
rm -r "$work/unpacked/rloss_caffe"
cd "$work/unpacked"
unset PYTHONPATH
export RLOSS_SHARED="${RLOSS_SHARED:-${ROOT%/*}/shared}"
run_tests "$ROOT/.venv-core/bin/python" "$@"
