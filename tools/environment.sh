# Shell functions shared by quickstart.sh, test.sh and .ci/run: find a Python that really runs, make an environment
# with it, and run tests in it. POSIX sh; to be sourced with ROOT set to the top of the checkout.
# shellcheck shell=sh

say() { printf '%s\n' "rloss_caffe: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# temporary_folder: make one, $work, that is removed when the script ends
temporary_folder() {
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT TERM HUP
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

# fresh FOLDER PYTHON [VENV-OPTION]: an empty environment in the place of one that was made here before
fresh() {
    if [ -e "$1" ] && [ ! -f "$1/rloss_caffe.stamp" ]; then
        die "$1 is there, but these scripts did not make it; move it away, or remove it, and try again"
    fi
    rm -rf "$1"
    # shellcheck disable=SC2086 # an absent option is no argument
    "$2" -m venv ${3:-} "$1" || { rm -rf "$1" && die "$2 could not make an environment in $1"; }
    echo unfinished >"$1/rloss_caffe.stamp"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip \
        || die "pip could not reach a package index; is there a network, or a proxy to set?"
}

# ready FOLDER STAMP: is the environment there, and made from the same?
ready() {
    [ -f "$1/rloss_caffe.stamp" ] && [ "$(cat "$1/rloss_caffe.stamp")" = "$2" ] \
        && "$1/bin/python" -c 'import rloss_caffe' >/dev/null 2>&1
}

# stamp PYTHON WHAT: what an environment is made from
stamp() {
    "$1" -c 'import sys; print(sys.executable, sys.version.replace("\n", " "))'
    printf '%s\n' "$2"
    cat "$ROOT/setup.py" "$ROOT/pyproject.toml" "$ROOT/tools/environment.sh" "$ROOT/tools/own_caffe.py" | cksum
}

# make_environment FOLDER PYTHON EXTRAS [REQUIREMENTS]: an environment with the package; at once if it is up to date
make_environment() {
    folder=$1 python=$2 extras=$3 requirement=${4:-}
    stamp=$(stamp "$python" "$extras${requirement:+ $requirement}")
    ready "$folder" "$stamp" && return 0
    say "making $folder with $python"
    fresh "$folder" "$python"
    say "installing the package and what it needs; this downloads some 250 MB and takes a minute or two"
    # shellcheck disable=SC2086 # an absent requirement is no argument
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -e "${ROOT}[$extras]" $requirement \
        || die "the packages could not be installed; pip's message above says why"
    printf '%s\n' "$stamp" >"$folder/rloss_caffe.stamp"
}

# over_environment PYTHON FOLDER: an environment over an environment sees only what is under both, without this
over_environment() {
    packages=$("$2/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$1" -c "
import site, sys
if sys.prefix != sys.base_prefix:
    print('import site;', *(f'site.addsitedir({folder!r});' for folder in site.getsitepackages()))
" >"$packages/rloss_caffe_base.pth"
}

# environment_over PYTHON FOLDER: one that sees all that PYTHON has, its Caffe above all, and replaces nothing of it
environment_over() {
    folder=$2
    "$1" -c 'import caffe' || die "RLOSS_PYTHON=$1 cannot import caffe; its message is above"
    python=$("$1" -c 'import sys; print(sys.executable)')
    stamp=$(stamp "$python" "over a Caffe of the user's own")
    if ! ready "$folder" "$stamp"; then
        say "making $folder over $python; nothing that its Caffe needs is replaced"
        fresh "$folder" "$python" --system-site-packages
        over_environment "$python" "$folder"
        "$folder/bin/python" "$ROOT/tools/own_caffe.py" "$folder" || exit 1
        printf '%s\n' "$stamp" >"$folder/rloss_caffe.stamp"
    fi
    while IFS= read -r line; do say "$line"; done <"$folder/left_out.txt"
}

# caffe_environment: .venv with the package, Caffe, and all that the tools and tests use
caffe_environment() {
    if [ -n "${RLOSS_PYTHON:-}" ]; then
        environment_over "$RLOSS_PYTHON" "$ROOT/.venv"
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

# torch_environment: .venv-torch with the package, PyTorch, and all that the tools and tests use
torch_environment() {
    python=$(find_python 3.11 3.12 3.13) || die "no Python from 3.11 to 3.13 was found that runs"
    [ -e "$ROOT/.venv-torch" ] || say "on Linux, PyTorch comes with CUDA, in some GB, unless the index has a CPU build," \
        "as PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu has"
    make_environment "$ROOT/.venv-torch" "$python" torch,dev "torch==2.13.0 keras==3.15.1"
}

# tensorflow_environment: .venv-tensorflow with the package, TensorFlow, Keras, JAX, and all that tools and tests use
tensorflow_environment() {
    python=$(find_python 3.11 3.12 3.13) || die "no Python from 3.11 to 3.13 was found that runs"
    case "$(uname -s) $(uname -m)" in
        "Linux x86_64" | "Linux amd64") tensorflow=tensorflow-cpu ;;
        *) tensorflow=tensorflow ;;
    esac
    make_environment "$ROOT/.venv-tensorflow" "$python" dev "$tensorflow==2.21.0 keras==3.15.1 jax==0.10.2"
}

# caffe_results: where .venv has Caffe, write what its layers make of a batch into $work, and tell the tests where
caffe_results() {
    if .venv/bin/python -c 'import caffe' 2>/dev/null; then
        export RLOSS_CAFFE_RESULTS="$work/caffe_results.npz"
        GLOG_minloglevel=2 .venv/bin/python tests/helpers/caffe_results.py "$RLOSS_CAFFE_RESULTS"
    else
        say "there is no Caffe in .venv, so nothing is compared with it; tools/test.sh makes it"
    fi
}

# browser: Chromium and its driver, for the tests of the drawing page; installed where that is possible
browser() {
    if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "installing chromium and chromium-driver"
            export DEBIAN_FRONTEND=noninteractive
            apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null \
                || say "they could not be installed"
        else
            say "no chromium with its chromedriver here, so the tests of the page are left out;" \
                "on Debian: apt-get install chromium chromium-driver"
        fi
    fi
}

# run_tests PYTHON [options of pytest]: in as many processes as there are cores, up to four; with '-n 0' in one
run_tests() {
    python=$1
    shift
    # Each process begins with a row of whole files, so that what a file's tests share is made once, and in the end
    # takes tests from the others.
    ! "$python" -c 'import xdist' 2>/dev/null || set -- -n auto --maxprocesses 4 --dist worksteal "$@"
    "$python" -m pytest "$@"
}
