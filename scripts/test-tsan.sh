#!/usr/bin/env bash
# Builds the tests of the native core with ThreadSanitizer in build/tsan, and runs them.
#   scripts/test-tsan.sh [doctest options, as --test-case='scan*']
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/build-tsan.sh
# TSan's shadow memory has fixed places, which the kernel's randomization of addresses may take
# (vm.mmap_rnd_bits above 28).
TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 setarch -R build/tsan/core_tests "$@"
