# Shell functions shared by quickstart.sh, test.sh and .ci/run: find a Python that really runs, and make an
# environment with it. POSIX sh; to be sourced with ROOT set to the top of the checkout.
# shellcheck shell=sh

say() { printf '%s\n' "rloss_caffe: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# works PYTHON VERSION: does it run, is it of that version (3.9), can it make environments?
works() {
    "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1
}

# candidates VERSION: interpreters of that version that may exist, one a line
candidates() {
    printf '%s\n' "python$1" python3 python
    for folder in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".* "${CONDA_PREFIX:-/nonexistent}" \
        "$HOME"/miniconda3 "$HOME"/anaconda3 "$HOME"/miniforge3 /opt/conda \
        "$HOME"/miniconda3/envs/* "$HOME"/anaconda3/envs/* "$HOME"/miniforge3/envs/* /opt/conda/envs/* \
        /usr/local /usr /opt/homebrew; do
        [ -x "$folder/bin/python$1" ] && printf '%s\n' "$folder/bin/python$1"
    done
    return 0
}

# find_python VERSION...: print the path of the first interpreter of these versions that works
find_python() {
    for version in "$@"; do
        found=$(candidates "$version" | while IFS= read -r python; do
            if works "$python" "$version"; then
                "$python" -c 'import sys; print(sys.executable)'
                break
            fi
        done)
        if [ -n "$found" ]; then
            printf '%s\n' "$found"
            return 0
        fi
    done
    return 1
}

# python_from_uv VERSION: let uv, from the package index, provide an interpreter, and print its path
python_from_uv() {
    any=$(find_python 3.13 3.12 3.11 3.10 3.14) || return 1
    say "no Python $1 here; asking uv, from the package index, for one"
    rm -rf "$ROOT/.venv-uv"
    "$any" -m venv "$ROOT/.venv-uv" >&2 && "$ROOT/.venv-uv/bin/pip" install --quiet uv >&2 || return 1
    "$ROOT/.venv-uv/bin/uv" python install "$1" >&2 || return 1
    "$ROOT/.venv-uv/bin/uv" python find "$1"
}

# make_environment FOLDER PYTHON EXTRAS [VENV-OPTION]: an environment with the package; at once if it is up to date
make_environment() {
    folder=$1 python=$2 extras=$3 option=${4:-}
    stamp="$("$python" -c 'import sys; print(sys.version)') $extras $option $(cksum <"$ROOT/setup.py")"
    if [ -f "$folder/rloss_caffe.stamp" ] && [ "$(cat "$folder/rloss_caffe.stamp")" = "$stamp" ] \
        && "$folder/bin/python" -c 'import rloss_caffe' >/dev/null 2>&1; then
        return 0
    fi
    say "making $folder with $python; this downloads packages and takes a minute or two"
    rm -rf "$folder"
    # shellcheck disable=SC2086 # an absent option is no argument
    "$python" -m venv $option "$folder" || die "$python could not make an environment in $folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip \
        || die "pip could not reach a package index; is there a network, or a proxy to set?"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e "${ROOT}[$extras]" \
        || die "the packages could not be installed; pip's message above says why"
    printf '%s\n' "$stamp" >"$folder/rloss_caffe.stamp"
}

# caffe_environment: .venv with the package, Caffe, and all that the tools and tests use
caffe_environment() {
    if [ -n "${RLOSS_PYTHON:-}" ]; then
        "$RLOSS_PYTHON" -c 'import caffe' || die "RLOSS_PYTHON=$RLOSS_PYTHON cannot import caffe; its message is above"
        make_environment "$ROOT/.venv" "$RLOSS_PYTHON" images,pictures,dev --system-site-packages
        return 0
    fi
    case "$(uname -s) $(uname -m)" in
        "Linux x86_64" | "Linux amd64") ;;
        *) die "Caffe's wheel is for Linux on x86-64 only, this is $(uname -s) on $(uname -m);" \
            "set RLOSS_PYTHON to a Python that can import your own Caffe" ;;
    esac
    python=$(find_python 3.9 3.8) || python=$(python_from_uv 3.9) \
        || die "Caffe's wheel needs Python 3.9 or 3.8 and none was found that runs;" \
            "install one (Debian/Ubuntu: python3.9 with python3.9-venv; 'pyenv install 3.9'; 'conda create -n py39 python=3.9')" \
            "or set RLOSS_PYTHON to a Python that can import your own Caffe"
    make_environment "$ROOT/.venv" "$python" caffe,images,pictures,dev
}
