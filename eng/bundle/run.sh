#!/usr/bin/env bash
# BgeMetal on this machine: everything is here but the GPU's driver.
#
#   ./run.sh test [XUNIT OPTION..]      the kernel tests and the library's GPU tests; what needs a GPU is skipped, and counted, where there is none
#   ./run.sh bench [OPTION | WORD..]    bgemetal kernels bench: results/kernels.csv and results/roofline.png (default --device auto)
#   ./run.sh compare [OPTION..]         the same encoder from the same checkpoint here and in PyTorch (see compare.py --help): tokens/s side by side
#   ./run.sh bgemetal COMMAND..         the command line itself
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1 TESTINGPLATFORM_TELEMETRY_OPTOUT=1
# A machine without a home has no cache folder of its own; compiled kernels are kept beside the programs.
export BGEMETAL_KERNEL_CACHE=${BGEMETAL_KERNEL_CACHE:-$here/cache}

what=${1:-}
[ $# -eq 0 ] || shift
case $what in
    test)
        status=0
        "$here/bin/BgeMetal.Kernels.Tests" -noColor "$@" || status=1
        "$here/bin/BgeMetal.Tests" -noColor -namespace "BgeMetal.Tests.Cuda" "$@" || status=1
        exit $status
        ;;
    bench)
        mkdir -p "$here/results"
        exec "$here/bin/BgeMetal.Cli" kernels bench "$@" --output "$here/results/kernels.csv" --plot "$here/results/roofline.png"
        ;;
    compare) exec python3 "$here/compare.py" --bgemetal "$here/bin/BgeMetal.Cli" --samples "$here/bin/Samples" --results "$here/results" "$@" ;;
    bgemetal) exec "$here/bin/BgeMetal.Cli" "$@" ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
