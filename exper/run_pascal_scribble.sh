#!/bin/sh
# Train and test a network on scribbles, in two phases (Tang et al., ECCV 2018): partial cross-entropy, then the same with
# a regularised loss. Run it again after an interruption: it goes on where it stopped, and skips what is done.
#
# usage: exper/run_pascal_scribble.sh [NAME=VALUE ...]       every NAME may also come from the environment
#
#   DATA_ROOT                 the data: a folder with JPEGImages, pascal_2012_scribble, SegmentationClassAug (required)
#   NET_ID                    deeplab_largeFOV (default), deeplab_msc_largeFOV, deeplab_vgg16, resnet-101,
#                             deeplab_squeezenet (small, for CPUs), quickstart (smaller, from nothing: no weights)
#   RUN_TRAIN                 1: phase one, partial cross-entropy (default); 0: not
#   RUN_TRAINWITHDENSECRFLOSS 1: phase two, with the loss that LOSS names (default); 0: not
#   RUN_TEST                  1: score the final weights of both phases (default); 0: not
#   LOSS                      of phase two: densecrf (default), normalized_cut, kernel_cut, local_potts, self_label; none:
#                             phase two without such a loss, the control. Each has weights and logs of its own name
#   LOSS_WEIGHT               its weight; default: what its prototxt says. DENSECRF_LOSS_WEIGHT is densecrf's; 1e-8
#   LOSS_PARAMS               more parameters of its layer, such as "kernel_normalization: symmetric, exact_gradient: true"
#   DEV_ID                    a GPU's id; cpu; or empty (default): what the solver says, the CPU if there is no GPU
#   WEIGHTS                   what phase one starts from; 'none' for no weights at all, to try things out.
#                             Default: $OUTPUT/model/NET_ID/, where the message tells which file is missing
#   WEIGHTS2                  what phase two starts from; default: phase one's last snapshot
#   TRAIN_SET_SUFFIX          list/train$SUFFIX.txt is the training list (_full: full masks); default empty
#   TEST_SET                  list/$TEST_SET.txt is scored; default val
#   LIST_DIR                  where the lists are; default $EXP/list, else $DATA_ROOT/list (see tools/make_lists.py)
#   EXP, NUM_LABELS           pascal_scribble, 21
#   OUTPUT                    gets model/ log/ config/; default exper/$EXP
#   MAX_ITER, MAX_ITER2       iterations of phase one and two, to shorten a run; default: the solvers'
#   BATCH_SIZE, CROP_SIZE     of training, TEST_CROP_SIZE of testing, TEST_ITER images to score, SNAPSHOT interval,
#   SEED                      random_seed, and BI_XY_STD, BI_RGB_STD bandwidths of a dense loss; default: what the
#                             prototxts say, and all images of the list
#   CAFFE_BIN                 a caffe program built with Python layers; default: rloss-caffe, which needs pycaffe only
#
# example: DATA_ROOT=/data/VOC2012 exper/run_pascal_scribble.sh NET_ID=deeplab_vgg16 DEV_ID=0
set -eu

NAMES="DATA_ROOT NET_ID RUN_TRAIN RUN_TRAINWITHDENSECRFLOSS RUN_TEST LOSS LOSS_WEIGHT LOSS_PARAMS DENSECRF_LOSS_WEIGHT
DEV_ID WEIGHTS WEIGHTS2 TRAIN_SET_SUFFIX TEST_SET LIST_DIR EXP NUM_LABELS OUTPUT MAX_ITER MAX_ITER2 BATCH_SIZE CROP_SIZE
TEST_CROP_SIZE TEST_ITER SNAPSHOT SEED BI_XY_STD BI_RGB_STD CAFFE_BIN"
LOSSES="densecrf normalized_cut kernel_cut local_potts self_label none"

say() { printf '%s\n' "run_pascal_scribble: $*" >&2; }

die() {
    say "$*"
    exit 1
}

usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; }

absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$PWD/$1" ;;
    esac
}

for argument in "$@"; do
    case $argument in
        -h | --help) usage && exit 0 ;;
    esac
    name=${argument%%=*}
    # shellcheck disable=SC2086 # NAMES is a list of words
    if [ "$name" = "$argument" ] || ! printf '%s\n' $NAMES | grep -qx -e "$name"; then
        usage >&2
        die "unknown argument: $argument"
    fi
    export "${argument?}"
done

EXP=${EXP:-pascal_scribble}
NET_ID=${NET_ID:-deeplab_largeFOV}
NUM_LABELS=${NUM_LABELS:-21}
TRAIN_SET=train${TRAIN_SET_SUFFIX:-}
TEST_SET=${TEST_SET:-val}
LOSS=${LOSS:-densecrf}
LOSS_WEIGHT=${LOSS_WEIGHT:-} LOSS_PARAMS=${LOSS_PARAMS:-}
if [ "$LOSS" = densecrf ]; then
    LOSS_WEIGHT=${LOSS_WEIGHT:-${DENSECRF_LOSS_WEIGHT:-1e-8}}
elif [ -n "${DENSECRF_LOSS_WEIGHT:-}" ]; then
    die "DENSECRF_LOSS_WEIGHT is for LOSS=densecrf; LOSS_WEIGHT sets the weight of $LOSS"
fi
wrong=$(printf '%s\n' "$LOSS_PARAMS" | tr ',' '\n' | sed '/^ *$/d; /^ *[a-z_0-9]*: *[^ "\\][^"\\]*$/d')
[ -z "$wrong" ] || die "LOSS_PARAMS must be 'NAME: VALUE, NAME: VALUE', found '$LOSS_PARAMS'"
DEV_ID=${DEV_ID:-}
[ -n "${DATA_ROOT:-}" ] || die "DATA_ROOT is not set: the folder with JPEGImages, pascal_2012_scribble and" \
    "SegmentationClassAug; tools/fetch_data.py fetches them; --help tells more"
DATA_ROOT=$(absolute "${DATA_ROOT%/}")
for path in "${WEIGHTS:-none}" "${WEIGHTS2:-none}"; do
    [ "$path" = none ] || [ -f "$path" ] || die "no such file: $path"
done
[ "${WEIGHTS:-none}" = none ] || WEIGHTS=$(absolute "$WEIGHTS")
[ "${WEIGHTS2:-none}" = none ] || WEIGHTS2=$(absolute "$WEIGHTS2")
if [ -n "${CAFFE_BIN:-}" ]; then
    command -v "$CAFFE_BIN" >/dev/null || die "no program $CAFFE_BIN (CAFFE_BIN)"
    case $CAFFE_BIN in
        */*) CAFFE_BIN=$(absolute "$CAFFE_BIN") ;;
    esac
fi
[ -z "${LIST_DIR:-}" ] || LIST_DIR=$(absolute "$LIST_DIR")
[ -z "${OUTPUT:-}" ] || { mkdir -p "$OUTPUT" && OUTPUT=$(absolute "$OUTPUT"); }

HERE=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
ROOT=${HERE%/*}
cd "$HERE"
OUTPUT=${OUTPUT:-$EXP}
TEMPLATES=pascal_scribble/config/$NET_ID
CONFIG=$OUTPUT/config/$NET_ID MODEL=$OUTPUT/model/$NET_ID LOG=$OUTPUT/log/$NET_ID
[ -f "$TEMPLATES/solver.prototxt" ] \
    || die "no network $NET_ID; there are: $(find pascal_scribble/config -mindepth 1 -maxdepth 1 -exec basename {} \; | sort | xargs)"
case $LOSS in
    none)
        phase_two=trainwithnoloss
        [ -z "$LOSS_WEIGHT$LOSS_PARAMS${BI_XY_STD:-}${BI_RGB_STD:-}" ] \
            || die "LOSS=none has no loss that LOSS_WEIGHT, LOSS_PARAMS, BI_XY_STD or BI_RGB_STD could be for"
        ;;
    *) phase_two=trainwith$(printf '%s' "$LOSS" | tr -d _)loss ;;
esac
# shellcheck disable=SC2086 # LOSSES is a list of words
[ -f "$TEMPLATES/$phase_two.prototxt" ] || printf '%s\n' $LOSSES | grep -qx -e "$LOSS" \
    || die "no loss $LOSS; there are: $LOSSES"
[ -d "$DATA_ROOT" ] || die "no folder $DATA_ROOT (DATA_ROOT); tools/fetch_data.py fetches the data"

list_dir=${LIST_DIR:-$EXP/list}
if [ -z "${LIST_DIR:-}" ] && [ ! -f "$list_dir/$TRAIN_SET.txt" ] && [ -f "$DATA_ROOT/list/$TRAIN_SET.txt" ]; then
    list_dir=$DATA_ROOT/list
fi
LIST_DIR=$list_dir
for list in "$TRAIN_SET" "$TEST_SET"; do
    [ -f "$LIST_DIR/$list.txt" ] || die "no list $LIST_DIR/$list.txt; tools/make_lists.py --data-root $DATA_ROOT makes it"
done

# --- which Caffe -----------------------------------------------------------------------------------------------------

export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
if [ -x "$ROOT/.venv/bin/rloss-caffe" ]; then
    rloss=venv
elif command -v rloss-caffe >/dev/null 2>&1; then
    rloss=program
else
    rloss=module
    [ -n "${CAFFE_BIN:-}" ] || python3 -c 'import caffe' 2>/dev/null || die "no Caffe: run tools/quickstart.sh once," \
        "install rloss_caffe where pycaffe is, or set CAFFE_BIN to a caffe program"
fi

# become_rloss ARGUMENTS...: go on as rloss-caffe
become_rloss() {
    case $rloss in
        venv) exec "$ROOT/.venv/bin/python" -m rloss_caffe "$@" ;;
        program) exec rloss-caffe "$@" ;;
        *) exec python3 -m rloss_caffe "$@" ;;
    esac
}

# become_caffe ARGUMENTS...: go on as the Caffe that trains and tests
become_caffe() {
    [ -z "${CAFFE_BIN:-}" ] || exec "$CAFFE_BIN" "$@"
    become_rloss "$@"
}

gpu=
case $DEV_ID in
    '' | cpu) ;;
    *) gpu=--gpu=$DEV_ID ;;
esac

# --- prototxts: the templates with everything filled in --------------------------------------------------------------

mkdir -p "$CONFIG" "$MODEL" "$LOG"

# quoted TEXT: as sed's replacement takes it, between bars; TEXT may hold anything but a line break
quoted() { printf '%s' "$1" | sed 's/[\\&|]/\\&/g'; }

# rule FROM TO: a line of a sed script
rule() { printf 's|%s|%s|g\n' "$1" "$(quoted "$2")"; }

rules=$(
    # shellcheck disable=SC2016 # these are the templates' words
    {
        rule '${EXP}/list' "$LIST_DIR"
        rule '${EXP}/config' "$OUTPUT/config"
        rule '${EXP}/model' "$OUTPUT/model"
        rule '${EXP}' "$EXP"
        rule '${NET_ID}' "$NET_ID"
        rule '${NUM_LABELS}' "$NUM_LABELS"
        rule '${DATA_ROOT}' "$DATA_ROOT/"
        rule '${TRAIN_SET}' "$TRAIN_SET"
        rule '${TEST_SET}' "$TEST_SET"
        rule '${DENSECRF_LOSS_WEIGHT}' "$LOSS_WEIGHT"
    }
    [ -z "${SNAPSHOT:-}" ] || rule '^snapshot: .*' "snapshot: $SNAPSHOT"
    case $DEV_ID in
        '') ;;
        cpu) rule '^solver_mode: .*' 'solver_mode: CPU' ;;
        *) rule '^solver_mode: .*' 'solver_mode: GPU' ;;
    esac
)

# fill_in TEMPLATE RESULT [SED-SCRIPT]: a template that is not there, generate_networks.py writes
fill_in() {
    template=$TEMPLATES/$1.prototxt
    if [ ! -f "$template" ]; then
        python=$ROOT/.venv/bin/python
        [ -x "$python" ] || python=python3
        "$python" pascal_scribble/generate_networks.py --output "$CONFIG/templates" "$NET_ID/$1" >/dev/null \
            || die "no $template, and $python could not write it"
        template=$CONFIG/templates/$NET_ID/$1.prototxt
    fi
    sed -e "$rules" -e "${3:-}" "$template" >"$CONFIG/$2.prototxt"
}

# settings NAME VALUE ...: a sed script that sets those of a data layer that have a value
settings() {
    while [ $# -gt 0 ]; do
        [ -z "$2" ] || printf 's/%s: [0-9]*/%s: %s/g\n' "$1" "$1" "$2"
        shift 2
    done
}

# parameter NAME VALUE: a sed script that sets one parameter in a param_str, where it stands or behind the others
parameter() {
    value=$(quoted "$2")
    printf '%s\n' "t begin_$1" ":begin_$1" \
        's|"'"$1"': [^\"]*|"'"$1: $value|" "t end_$1" \
        's|\\n'"$1"': [^\"]*|\\n'"$1: $value|" "t end_$1" \
        's|"$|\\n'"$1: $value"'"|' ":end_$1"
}

# loss_settings: a sed script that sets what LOSS_WEIGHT, LOSS_PARAMS, BI_XY_STD and BI_RGB_STD say
loss_settings() {
    printf '/name: "%s_loss"/,/^}/{\n' "$LOSS"
    [ -z "$LOSS_WEIGHT" ] || rule 'loss_weight: .*' "loss_weight: $LOSS_WEIGHT"
    case $LOSS$LOSS_PARAMS in
        densecrf*labelled* | densecrf*gate*) # these take the labels, which the original's layer has not
            printf '%s\n' 's|bottom: ".*_softmax"|& bottom: "label"|' 's|propagate_down: true|& propagate_down: false|'
            ;;
    esac
    printf '/param_str:/{\n'
    [ -z "${BI_XY_STD:-}" ] || parameter bi_xy_std "$BI_XY_STD"
    [ -z "${BI_RGB_STD:-}" ] || parameter bi_rgb_std "$BI_RGB_STD"
    printf '%s\n' "$LOSS_PARAMS" | tr ',' '\n' | sed 's/^ *//; s/ *$//; /^$/d' | while IFS= read -r pair; do
        parameter "${pair%%:*}" "$(printf '%s' "${pair#*:}" | sed 's/^ *//')"
    done
    printf '}\n}\n'
}

# --- running ---------------------------------------------------------------------------------------------------------

# A signal is for the Caffe that runs, which saves a snapshot, and then for this script. Closing the terminal (HUP) lets
# the training go on to its end.
interrupted= signalled= caffe_pid=
trap 'interrupted=130 signalled=1 && stop_caffe' INT
trap 'interrupted=143 signalled=1 && stop_caffe' TERM
trap 'interrupted=129 signalled=1' HUP

# The caffe program saves a snapshot at SIGINT only, when it trains; SIGTERM ends all else.
stop_caffe() {
    [ -n "$caffe_pid" ] || return 0
    signal=TERM
    [ -z "${CAFFE_BIN:-}" ] || [ "$caffe_command" != train ] || signal=INT
    kill -s "$signal" "$caffe_pid" 2>/dev/null || :
}

# logged NAME ARGUMENTS...: run Caffe, show and log what it says; the log's name has the date
logged() {
    stop_if_interrupted "stopped before $1"
    log=$LOG/$1_$(date +%Y%m%d-%H%M%S).log
    shift
    caffe_command=$1
    say "log: $log"
    pipe=$(mktemp -d)
    trap 'rm -rf "$pipe"' EXIT
    mkfifo "$pipe/log"
    # In the background, as only then a signal finds this script listening.
    (trap '' HUP TERM && exec tee -ai "$log") <"$pipe/log" &
    tee_pid=$!
    (become_caffe "$@") >"$pipe/log" 2>&1 &
    caffe_pid=$!
    [ -z "$interrupted" ] || stop_caffe
    status=0
    while :; do
        signalled=
        wait "$caffe_pid" && ended=0 || ended=$?
        [ "$ended" = 127 ] || status=$ended
        [ -n "$signalled" ] || break # else it was the signal that ended the waiting
    done
    caffe_pid=
    while kill -0 "$tee_pid" 2>/dev/null; do wait "$tee_pid" || :; done
    rm -rf "$pipe"
    return "$status"
}

# find_newest PHASE MAX_ITER: sets `state`, the newest whole solverstate, empty if there is none, and `is_done`; says
# what is passed over
find_newest() {
    is_done=
    state=$(become_rloss snapshots --newest "--last=$2" "$MODEL/$1") || is_done=$?
    case $is_done in
        '' | 3) ;;
        *)
            stop_if_interrupted "stopped while it looked at $1's snapshots"
            die "the snapshots of $1 could not be looked at"
            ;;
    esac
}

# stop_if_interrupted WHERE: in words
stop_if_interrupted() {
    [ -n "$interrupted" ] || return 0
    say "$1; the same command goes on"
    exit "$interrupted"
}

# failed WHAT: after an interrupt that is no failure
failed() {
    stop_if_interrupted "$1 was stopped before its end"
    die "$1 failed; see $log"
}

max_iter() { sed -n 's/^max_iter: *//p' "$CONFIG/$1_$TRAIN_SET.prototxt"; }

# train PHASE SOLVER WEIGHTS ITERATIONS
train() {
    phase=$1 solver=$2 weights=$3
    fill_in "$phase" "${phase}_$TRAIN_SET" "$(
        settings batch_size "${BATCH_SIZE:-}" crop_size "${CROP_SIZE:-}"
        [ "$phase" = train ] || loss_settings
    )"
    fill_in "$solver" "${solver}_$TRAIN_SET" "$(settings max_iter "$4")"
    if [ -n "${SEED:-}" ]; then
        sed -i.old -e '/^random_seed:/d' "$CONFIG/${solver}_$TRAIN_SET.prototxt"
        rm "$CONFIG/${solver}_$TRAIN_SET.prototxt.old"
        printf 'random_seed: %s\n' "$SEED" >>"$CONFIG/${solver}_$TRAIN_SET.prototxt"
    fi
    last=$(max_iter "$solver")
    final=$MODEL/${phase}_iter_$last.caffemodel
    find_newest "$phase" "$last"
    if [ -n "$is_done" ]; then
        say "$phase is done: $final (remove it to train anew)"
        return 0
    fi
    set -- train "--solver=$CONFIG/${solver}_$TRAIN_SET.prototxt"
    if [ -n "$state" ]; then
        say "$phase goes on from $state"
        set -- "$@" "--snapshot=$state"
        # For ImageSegData in a caffe program; rloss-caffe knows by itself.
        done=${state##*_iter_}
        iter_size=$(sed -n 's/^iter_size: *//p' "$CONFIG/${solver}_$TRAIN_SET.prototxt")
        export RLOSS_BATCHES_DONE=$((${done%%.*} * ${iter_size:-1}))
    elif [ "$weights" != none ]; then
        [ -f "$weights" ] || missing_weights "$weights" "$phase"
        [ -s "$weights" ] || die "$weights is empty: no weights to start $phase from"
        set -- "$@" "--weights=$weights"
    fi
    logged "$phase" "$@" ${gpu:+"$gpu"} || failed "$phase"
    unset RLOSS_BATCHES_DONE
    find_newest "$phase" "$last"
    if [ -z "$is_done" ]; then
        interrupted=${interrupted:-130} # Caffe alone was stopped
        failed "$phase"
    fi
    stop_if_interrupted "stopped after $phase, which is done"
}

# missing_weights PATH PHASE
missing_weights() {
    variable=WEIGHTS
    [ "$2" = train ] || variable=WEIGHTS2
    case $1 in
        */vgg16_20M.caffemodel) source="VGG-16 of DeepLab-LargeFOV (20 M parameters, ImageNet), from the page of DeepLab's \
authors, where it is called init.caffemodel, or with the original of this project (meng-tang/rloss)" ;;
        */init.caffemodel) source="the ImageNet initialisation of DeepLab v2 for this network, from the page of DeepLab's \
authors (DeepLab v2, init.caffemodel)" ;;
        */squeezenet_v1.0.caffemodel) source="SqueezeNet v1.0, from its authors' repository (forresti/SqueezeNet, \
SqueezeNet_v1.0)" ;;
        *) source="the result of the phase before; run it first, or set WEIGHTS2" ;;
    esac
    die "weights are missing: $1; they are $source. $variable=none starts from nothing, to try things out"
}

case $NET_ID in
    deeplab_largeFOV) initial=$MODEL/vgg16_20M.caffemodel ;;
    deeplab_squeezenet)
        initial=$MODEL/squeezenet_v1.0.caffemodel
        [ -f "$initial" ] || [ ! -f "$DATA_ROOT/squeezenet_v1.0.caffemodel" ] \
            || initial=$DATA_ROOT/squeezenet_v1.0.caffemodel
        ;;
    quickstart) initial=none ;;
    *) initial=$MODEL/init.caffemodel ;;
esac

if [ "$NET_ID" = deeplab_msc_largeFOV ] && [ -z "${WEIGHTS:-}" ] && [ "${RUN_TRAIN:-1}" = 1 ]; then
    say "deeplab_msc_largeFOV has no phase one of its own: it starts from deeplab_largeFOV's second (RUN_TRAIN=0)"
    RUN_TRAIN=0
fi

if [ "${RUN_TRAIN:-1}" = 1 ]; then
    train train solver "${WEIGHTS:-$initial}" "${MAX_ITER:-}"
fi

if [ "${RUN_TRAINWITHDENSECRFLOSS:-1}" = 1 ]; then
    fill_in solver "solver_$TRAIN_SET" "$(settings max_iter "${MAX_ITER:-}")"
    phase_one=$MODEL/train_iter_$(max_iter solver).caffemodel
    if [ "$NET_ID" = deeplab_msc_largeFOV ]; then
        phase_one=$OUTPUT/model/deeplab_largeFOV/${phase_two}_iter_9000.caffemodel
    fi
    train "$phase_two" "solver${phase_two#train}" "${WEIGHTS2:-$phase_one}" "${MAX_ITER2:-${MAX_ITER:-}}"
fi

if [ "${RUN_TEST:-1}" = 1 ]; then
    fill_in test "test_$TEST_SET" "$(settings crop_size "${TEST_CROP_SIZE:-}")"
    scored=
    for phase in train "$phase_two"; do
        solver=$CONFIG/solver${phase#train}_$TRAIN_SET.prototxt
        [ -f "$solver" ] || continue
        weights=$MODEL/${phase}_iter_$(sed -n 's/^max_iter: *//p' "$solver").caffemodel
        [ -s "$weights" ] || continue
        scored=1
        say "scoring $weights on $TEST_SET"
        set -- test "--model=$CONFIG/test_$TEST_SET.prototxt" "--weights=$weights" ${gpu:+"$gpu"} \
            "--iterations=${TEST_ITER:-$(grep -c '[^[:space:]]' "$LIST_DIR/$TEST_SET.txt")}"
        [ -n "${CAFFE_BIN:-}" ] || set -- "$@" "--json=$LOG/${phase}_$TEST_SET.json"
        logged "test_$phase" "$@" || failed "the test"
        stop_if_interrupted "stopped after the test of $phase"
    done
    [ -n "$scored" ] || die "no weights to score in $MODEL; train first"
fi
