#!/usr/bin/env bash
# BgeMetal on this machine: everything is here but the GPU's driver. docs/GPU.md says what each call proves.
#
#   ./run.sh first                        probe, test, and the kernels in two minutes: what a first call of ten minutes can hold
#   ./run.sh probe                        does the driver load every kernel; launches, graphs, copies, limits; then a second process with warm caches
#   ./run.sh test [MINUTES [CLASS..]]     every test that uses the GPU (default 7 minutes); failures first in results/tests.txt
#   ./run.sh repeat [N]                   every operation N times (default 100), and training twice: the same bits
#   ./run.sh sanitize [MINUTES [CLASS..]] compute-sanitizer memcheck, racecheck and synccheck over the GPU tests of small shapes (default 8 minutes)
#   ./run.sh bench [OPTION | WORD..]      bgemetal kernels bench: results/kernels.csv and results/roofline.png; all within 4 minutes
#   ./run.sh compare [PART..] [OPTION..]  the same work here and in PyTorch, side by side (compare --help)
#   ./run.sh bgemetal COMMAND..           the command line itself
#
# Results go to RESULTS (default results/); where OUT names a folder they are packed into OUT/results.tar.gz after every step. DEVICE=cpu tries repeat and compare without a GPU.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=${RESULTS:-$here/results}
device=${DEVICE:-cuda}
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 TESTINGPLATFORM_TELEMETRY_OPTOUT=1 PYTHONUNBUFFERED=1
# A machine without a home has no cache folder of its own; compiled kernels, ours and the driver's, are kept beside the programs.
export BGEMETAL_KERNEL_CACHE=${BGEMETAL_KERNEL_CACHE:-$here/cache/kernels} CUDA_CACHE_PATH=${CUDA_CACHE_PATH:-$here/cache/driver} CUDA_CACHE_MAXSIZE=${CUDA_CACHE_MAXSIZE:-1073741824}
[ ! -d "$here/fixtures" ] || export BGEMETAL_FIXTURES=${BGEMETAL_FIXTURES:-$here/fixtures}
mkdir -p "$results"

bgemetal() { "$here/bin/BgeMetal.Cli" "$@"; }

# Runs a step, keeps what it prints, and packs all results, so that a call that is cut off later still brings back what was done.
step() {
    local name=$1 status=0
    shift
    echo "== $name"
    "$@" 2>&1 | tee "$results/$name.log" || status=${PIPESTATUS[0]}
    if [ -n "${OUT:-}" ] && [ -d "${OUT:-}" ]; then
        tar -C "$(dirname "$results")" -czf "$OUT/results.tar.gz.part" "$(basename "$results")" && mv "$OUT/results.tar.gz.part" "$OUT/results.tar.gz"
    fi
    return "$status"
}

probe() {
    step probe bgemetal kernels probe --device "$device" --output "$results" --costs "$here/bin/Cuda/ptxas.csv"
    local status=$?
    step probe_again bgemetal kernels probe --device "$device" --loads-only --output "$results" --name probe_again --before "$results/probe.json" || status=1
    return $status
}

tests() {
    local minutes=$1 report=$2
    shift 2
    python3 "$here/tests.py" --minutes "$minutes" --report "$results/$report" "$@" \
        "$here/bin/BgeMetal.Kernels.Tests:*.Gpu*,*.VocabularyScaleTests" "$here/bin/BgeMetal.Tests:BgeMetal.Tests.Cuda.*"
}

# The classes that were asked for by words, as options of tests.py.
class_options() { for word in "$@"; do printf -- '--class\n%s\n' "$word"; done; }

# Twice the same training: the same weights, bit for bit.
trains_equally() {
    local command=$1 file=$2 model=$3 data=$4 out
    out=$(mktemp -d)
    for run in one two; do
        bgemetal "$command" --model "$model" --train-data "$data" --output-dir "$out/$run" --max-steps 20 --per-device-train-batch-size 4 --logging-steps 1 \
            --device "$device" --quiet || { rm -rf "$out"; return 1; }
    done
    if cmp "$out/one/$file" "$out/two/$file" && cmp <(cut -d, -f1-6 "$out/one/train_log.csv") <(cut -d, -f1-6 "$out/two/train_log.csv"); then
        echo "$command, 20 steps twice: the same weights and the same log"
    else
        echo "FAILED $command, 20 steps twice: other weights or another log"
        false
    fi
    local status=$?
    rm -rf "$out"
    return $status
}

repeat() {
    local status=0 model
    [ "$device" = cpu ] || step repeat bgemetal kernels repeat --device "$device" --repeats "$1" --output "$results/repeat.csv" || status=1
    model=$(mktemp -d)
    bgemetal init --corpus "$here/bin/Samples/corpus.jsonl" --output "$model/m" --vocab-size 2000 --layers 4 --hidden-size 256 --heads 8 --intermediate-size 1024 --max-positions 128 --quiet || return 1
    step repeat_finetune trains_equally finetune model.safetensors "$model/m" "$here/bin/Samples/finetune.jsonl" || status=1
    step repeat_pretrain trains_equally pretrain encoder_model/model.safetensors "$model/m" "$here/bin/Samples/pretrain.jsonl" || status=1
    rm -rf "$model"
    return $status
}

# compute-sanitizer on the PATH, in CUDA's folders, or in a package of this Python.
find_sanitizer() {
    command -v compute-sanitizer && return
    local site
    site=$(python3 -c 'import site, sysconfig; print(" ".join({sysconfig.get_paths()["purelib"], *site.getsitepackages()}))' 2>/dev/null)
    for folder in /usr/local/cuda*/bin /usr/local/cuda*/compute-sanitizer /opt/cuda*/bin /opt/nvidia/*/compute-sanitizer "${CONDA_PREFIX:-/none}/bin"; do
        [ -x "$folder/compute-sanitizer" ] && echo "$folder/compute-sanitizer" && return
    done
    # shellcheck disable=SC2086
    find $site -path '*nvidia*' -name compute-sanitizer -type f 2>/dev/null | head -1 | grep .
}

sanitize() {
    local minutes=$1 sanitizer status=0
    shift
    sanitizer=$(find_sanitizer) || { echo "no compute-sanitizer on this machine (PATH, CUDA's folders, Python's packages)"; return 1; }
    mapfile -t chosen < <(class_options "$@")
    for tool in memcheck racecheck synccheck; do
        step "sanitize_$tool" tests "$(awk "BEGIN { print $minutes / 3 }")" "sanitize_$tool.txt" --not Scale --not Bench --jobs 2 "${chosen[@]}" \
            --wrap "$sanitizer --tool $tool --target-processes all --error-exitcode 9 --print-limit 20" || status=1
        grep -E 'ERROR SUMMARY|RACECHECK SUMMARY|Invalid|hazard' "$results/sanitize_$tool.txt" | sort | uniq -c | sort -rn | head -20
    done
    return $status
}

bench() { step bench bgemetal kernels bench --device "$device" --budget 220 "$@" --output "$results/kernels.csv" --plot "$results/roofline.png"; }

what=${1:-}
[ $# -eq 0 ] || shift
case $what in
    first)
        status=0
        probe || status=1
        step test tests 4 tests.txt || status=1
        step bench bgemetal kernels bench bf16 --device "$device" --budget 100 --output "$results/kernels.csv" --plot "$results/roofline.png" || status=1
        exit $status
        ;;
    probe) probe ;;
    test)
        minutes=${1:-7}
        [ $# -eq 0 ] || shift
        mapfile -t chosen < <(class_options "$@")
        step test tests "$minutes" tests.txt "${chosen[@]}"
        ;;
    repeat) repeat "${1:-100}" ;;
    sanitize)
        minutes=${1:-8}
        [ $# -eq 0 ] || shift
        sanitize "$minutes" "$@"
        ;;
    bench) bench "$@" ;;
    compare) step compare python3 "$here/compare" --bgemetal "$here/bin/BgeMetal.Cli" --results "$results" --device "$device" "$@" ;;
    bgemetal) bgemetal "$@" ;;
    *) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
