#!/usr/bin/env bash
# Builds the native core and its tests with AddressSanitizer and UndefinedBehaviorSanitizer in build/asan, and runs them.
#   scripts/test-asan.sh [doctest options, as --test-case='scan*']
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake -S native -B build/asan -DSANITIZE=address -DSTILLPOINT_TESTS=ON >/dev/null
cmake --build build/asan --parallel "$(nproc)"
ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 build/asan/core_tests "$@"
