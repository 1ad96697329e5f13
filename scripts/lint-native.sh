#!/usr/bin/env bash
# Formatter and linter of the C++ code: clang-format on all of it, clang-tidy (checks:
# .clang-tidy) on core and binding.
#   scripts/lint-native.sh format|tidy|suits
# Each release of LLVM formats and warns in another way: the code is held to release 14. "suits" says
# whether this machine has it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

mapfile -t sources < <(find native -name '*.cc' | sort)
mapfile -t headers < <(find native -name '*.h' | sort)

tool() { command -v "$1-14" || command -v "$1"; }
release() { "$(tool "$1")" --version | sed -nE 's/.*version ([0-9]+)\..*/\1/p'; }

case "${1:-}" in
  suits)
    for name in clang-format clang-tidy; do
      found=$(release "$name" 2>/dev/null) || { echo "there is no $name"; exit 1; }
      [ "$found" = 14 ] || { echo "$name is of LLVM $found, and the code is held to that of LLVM 14"; exit 1; }
    done
    ;;
  format)
    "$(tool clang-format)" --dry-run -Werror "${sources[@]}" "${headers[@]}"
    ;;
  tidy)
    cmake -S native -B build/tidy -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
      "-DCMAKE_JS_INC=$PWD/node_modules/node-api-headers/include;$PWD/node_modules/node-addon-api" >/dev/null
    node scripts/tidy-native.mjs "$(tool clang-tidy)" build/tidy
    ;;
  *)
    echo 'usage: scripts/lint-native.sh format|tidy|suits' >&2
    exit 2
    ;;
esac
