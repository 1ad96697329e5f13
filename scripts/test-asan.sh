#!/usr/bin/env bash
# Builds the tests of the native core with AddressSanitizer and UndefinedBehaviorSanitizer in
# build/asan, and runs them.
#   scripts/test-asan.sh [doctest options, as --test-case='scan*']
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/build-asan.sh
ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 build/asan/core_tests "$@"
