#!/usr/bin/env bash
# Runs the fuzz targets side by side under ASan and UBSan for SECONDS each: scripts/fuzz.sh [SECONDS]
# What they find stays in build/fuzz/findings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
corpus=build/fuzz/corpus
findings=build/fuzz/findings

scripts/build-asan.sh
mkdir -p "$findings" "$corpus"
build/asan/make_corpus "$corpus"

run() {
  "build/asan/fuzz_$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$findings/$1-" "$corpus/$1" >"build/fuzz/$1.log" 2>&1
}
run batch & batch=$!
run pack & pack=$!
run nbd & nbd=$!
run journal & journal=$!
failed=0
wait "$batch" || failed="$failed batch"
wait "$pack" || failed="$failed pack"
wait "$nbd" || failed="$failed nbd"
wait "$journal" || failed="$failed journal"
for name in batch pack nbd journal; do
  grep -E 'number_of_executed_units|peak_rss_mb' "build/fuzz/$name.log" | sed "s/^/$name: /" || true
done
if [ "$failed" != 0 ]; then
  for name in ${failed#0}; do
    echo "fuzz: $name: finding; the input is in $findings" >&2
    tail -n 40 "build/fuzz/$name.log" >&2
  done
  exit 1
fi
