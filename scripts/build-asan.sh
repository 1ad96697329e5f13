#!/usr/bin/env bash
# Builds the native core, its tests and the fuzz targets with AddressSanitizer and
# UndefinedBehaviorSanitizer in build/asan: with clang and its compiler runtime, which the fuzz targets
# need, so that the core is compiled once for both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Debian may have it under its version only.
clangxx=$(command -v clang++ || find /usr/bin -name 'clang++-[0-9]*' | sort -V | tail -n 1)
[ -n "$clangxx" ] || { echo 'clang++ is missing. Install it with "apt-get install clang libclang-rt-dev".' >&2; exit 1; }

# CMake begins anew where the compiler is another one.
[ "$(cat build/asan/.compiler 2>/dev/null)" = "$clangxx" ] || rm -rf build/asan
cmake -S native -B build/asan -DCMAKE_C_COMPILER="${clangxx/clang++/clang}" -DCMAKE_CXX_COMPILER="$clangxx" \
  -DSANITIZE=address -DSTILLPOINT_TESTS=ON -DSTILLPOINT_FUZZERS=ON >/dev/null
printf '%s\n' "$clangxx" >build/asan/.compiler
# One build at a time, whoever starts it.
flock build/asan/.lock cmake --build build/asan --parallel "$(nproc)"
