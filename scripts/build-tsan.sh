#!/usr/bin/env bash
# Builds the native core and its tests with ThreadSanitizer in build/tsan, by GCC: so that its warnings
# are errors somewhere, too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cmake -S native -B build/tsan -DSANITIZE=thread -DSTILLPOINT_TESTS=ON >/dev/null
# One build at a time, whoever starts it.
flock build/tsan/.lock cmake --build build/tsan --parallel "$(nproc)"
