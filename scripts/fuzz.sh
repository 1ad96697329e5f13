#!/usr/bin/env bash
# Runs the fuzz targets side by side under ASan and UBSan for SECONDS each: scripts/fuzz.sh [SECONDS]
# Needs clang with its compiler runtime. What they find stays in build/fuzz/findings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}
build=build/fuzz
corpus=$build/corpus
findings=$build/findings

# Debian may have it under its version only.
clangxx=$(command -v clang++ || find /usr/bin -name 'clang++-[0-9]*' | sort -V | tail -n 1)
[ -n "$clangxx" ] || { echo 'fuzz: clang++ is missing. Install it with "apt-get install clang libclang-rt-dev".' >&2; exit 1; }
clang=$(printf '%s' "$clangxx" | sed 's/clang++/clang/')

cmake -S native -B "$build" -DCMAKE_C_COMPILER="$clang" -DCMAKE_CXX_COMPILER="$clangxx" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DSANITIZE=address -DSTILLPOINT_FUZZERS=ON >/dev/null
cmake --build "$build" --parallel "$(nproc)" --target fuzz_batch fuzz_pack fuzz_nbd make_corpus
mkdir -p "$findings" "$corpus"
"$build/make_corpus" "$corpus"

run() {
  "$build/fuzz_$1" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
    -artifact_prefix="$findings/$1-" "$corpus/$1" >"$build/$1.log" 2>&1
}
run batch & batch=$!
run pack & pack=$!
run nbd & nbd=$!
failed=0
wait "$batch" || failed="$failed batch"
wait "$pack" || failed="$failed pack"
wait "$nbd" || failed="$failed nbd"
for name in batch pack nbd; do
  grep -E 'number_of_executed_units|peak_rss_mb' "$build/$name.log" | sed "s/^/$name: /" || true
done
if [ "$failed" != 0 ]; then
  for name in ${failed#0}; do
    echo "fuzz: $name: finding; the input is in $findings" >&2
    tail -n 40 "$build/$name.log" >&2
  done
  exit 1
fi
