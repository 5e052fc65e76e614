#!/usr/bin/env bash
# Runs the fuzz targets of a build made with HAWSER_FUZZ=ON (preset fuzz), each for so many seconds from its seeds.
# What a run finds is kept in BUILD_DIR/tests/fuzz/found and helps the next one; an input that breaks a target is left in
# BUILD_DIR/tests/fuzz/crashes, its log printed. Exit status: 0 nothing broke, 1 something did, 2 wrong use.
set -euo pipefail

usage() { echo "usage: tests/fuzz/run.sh BUILD_DIR SECONDS [TARGET...]" >&2; exit 2; }
(($# >= 2)) || usage
build=$1 seconds=$2
shift 2
[[ $seconds =~ ^[1-9][0-9]*$ ]] || usage
[[ -f $build/fuzz_targets.txt ]] || { echo "run.sh: $build is no build with HAWSER_FUZZ=ON" >&2; exit 2; }

mapfile -t all <"$build/fuzz_targets.txt"
targets=("$@")
(($#)) || targets=("${all[@]}")

folder=$build/tests/fuzz
mkdir -p "$folder/crashes" "$folder/logs"
failed=0
for target in "${targets[@]}"; do
  [[ -n $target ]] || continue
  [[ -x $folder/$target ]] || { echo "run.sh: $folder/$target is not built" >&2; exit 2; }
  found=$folder/found/$target
  mkdir -p "$found"
  options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=64 -print_final_stats=1
    -artifact_prefix="$folder/crashes/$target-")
  [[ ! -f $folder/corpus/$target.dict ]] || options+=(-dict="$folder/corpus/$target.dict")
  corpora=("$found")
  [[ ! -d $folder/corpus/$target ]] || corpora+=("$folder/corpus/$target")
  log=$folder/logs/$target.log
  if "$folder/$target" "${options[@]}" "${corpora[@]}" >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing broke;" \
      "$(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)"
  else
    tail -n 60 "$log"
    echo "$target: BROKEN; inputs are in $folder/crashes" >&2
    failed=1
  fi
done
exit "$failed"
