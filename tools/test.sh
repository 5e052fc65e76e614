#!/usr/bin/env bash
# Builds and runs every test of Hawser, on a machine that has nothing but Debian 12 or Ubuntu 24.04 (root or sudo). What is
# missing is installed first; what is there is left alone, so that later runs are quick and need no network. The last line of
# stdout is "N passed, N failed", summed over ctest and pytest; the exit status is 0 only if nothing failed.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: tools/test.sh [option...]

Without options: the release build and its tests, then the Python package and its tests.

  --long           all of it: also --asan, --tsan and --fuzz 60, a million simulated histories, a minute of ten joins a second,
                   every kill point in groups of every size, five minutes of mixed faults, larger crowds, every way to
                   cut a group in two
  --asan           also the tests under AddressSanitizer and UndefinedBehaviorSanitizer
  --tsan           also the tests under ThreadSanitizer
  --fuzz SECONDS   also each fuzz target for so many seconds (clang)
  --no-torch       does not install torch (CPU) into .venv; tests that need it are skipped where it is missing
  --help           this text

HAWSER_JOBS sets how many compilers run at once (default: one a processor).
Exit status: 0 all passed, 1 some failed or could not be built, 2 wrong options.
HELP
}

asan='' tsan='' fuzz='' long='' torch=1
while (($#)); do
  case $1 in
    --long) asan=1 tsan=1 long=1 fuzz=${fuzz:-60} ;;
    --asan) asan=1 ;;
    --tsan) tsan=1 ;;
    --fuzz)
      [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || { echo "test.sh: --fuzz needs a number of seconds" >&2; exit 2; }
      fuzz=$2
      shift
      ;;
    --no-torch) torch='' ;;
    --help | -h) usage; exit 0 ;;
    *) echo "test.sh: unknown option $1; --help lists them" >&2; exit 2 ;;
  esac
  shift
done

# shellcheck source=tools/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$hawser_root"

passed=0 failed=0 skipped=0

# The last line comes however the script ends: what could not be set up or built counts as one failure.
finish() {
  local status=$?
  if ((status != 0 && failed == 0)); then failed=1; fi
  if ((skipped == 0)); then
    echo "$passed passed, $failed failed"
  else
    echo "$passed passed, $failed failed, $skipped skipped"
  fi
}
trap finish EXIT

results=$hawser_root/build/results
mkdir -p "$results"

# count NAME STATUS FILE: adds the counts of a JUnit file. A run that ended badly without a failed case counts as one.
count() {
  local numbers p f s
  if ! numbers=$("$hawser_python" - "$3" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

cases = list(ElementTree.parse(sys.argv[1]).iter("testcase"))
failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
skipped = [case for case in cases if case not in failed and case.find("skipped") is not None]
print(len(cases) - len(failed) - len(skipped), len(failed), len(skipped))
PYTHON
  ); then
    numbers="0 0 0"
  fi
  read -r p f s <<<"$numbers"
  if (($2 != 0 && f == 0)); then f=1; fi
  if ((p + f == 0)); then f=1; fi # a run without a test is no success
  hawser_say "$1: $p passed, $f failed, $s skipped"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# run_ctest PRESET [SUITE ARGUMENT...]: all of it, or what the arguments select, counted under that name.
run_ctest() {
  local preset=$1 suite=${2:-} status=0
  local file=$results/$preset${suite:+-$suite}.xml
  hawser_say "testing the preset $preset${suite:+, $suite}"
  rm -f "$file"
  ctest --preset "$preset" --parallel 2 --output-junit "$file" "${@:3}" || status=$?
  count "ctest $preset${suite:+ $suite}" "$status" "$file"
}

run_pytest() {
  local status=0
  if [[ ! -e pyproject.toml ]]; then
    hawser_say "no pyproject.toml: the Python package is not tested"
    return
  fi
  hawser_pip_install
  hawser_say "testing the Python package"
  rm -f "$results/pytest.xml"
  "$hawser_python" -m pytest -q bindings/python/tests --junitxml="$results/pytest.xml" || status=$?
  count pytest "$status" "$results/pytest.xml"
}

# tally COMMAND ARGUMENT...: as one test.
tally() {
  if "$@"; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
}

# run_stress SCRIPT ARGUMENT...: one of stress/.
run_stress() {
  hawser_say "stress: $*"
  HAWSER_BIN=$hawser_root/build/release/tools/hawser tally "$hawser_python" "stress/$1.py" "${@:2}"
}

run_simulator() {
  hawser_say "a million simulated histories"
  tally build/release/tests/sim/sim --long --jobs 2
}

run_fuzz() {
  local target
  hawser_build fuzz hawser_fuzzers
  while read -r target; do
    [[ -n $target ]] || continue
    hawser_say "fuzzing $target for $fuzz s"
    tally tests/fuzz/run.sh build/fuzz "$fuzz" "$target"
  done <build/fuzz/fuzz_targets.txt
}

clang=()
if [[ -n $asan$fuzz ]] && ! compgen -c clang++ | grep -qE '^clang\+\+(-[0-9]+)?$'; then
  clang=(clang)
fi
# etcd is what the store in etcd is tested against; ip, ss and nft make and break networks in namespaces. Tests that miss
# them, or may not use them, are skipped.
hawser_apt etcd-server iproute2 nftables "${clang[@]}"
hawser_venv scikit-learn ml_dtypes mypy matplotlib
[[ -z $torch ]] || hawser_torch

hawser_build release
run_ctest release
run_pytest
if [[ -n $asan ]]; then
  hawser_build asan
  run_ctest asan
fi
if [[ -n $tsan ]]; then
  hawser_build tsan
  run_ctest tsan
fi
if [[ -n $fuzz ]]; then
  run_fuzz
fi
if [[ -n $long ]]; then
  run_simulator
  # Larger crowds, every way to cut a group in two.
  HAWSER_TEST_CROWD=64 HAWSER_TEST_ALL=1 run_ctest release large -R 'crowd|cut in two'
  run_stress joins --long
  run_stress kill_points --long
  run_stress soak --seconds 300
fi

((failed == 0))
