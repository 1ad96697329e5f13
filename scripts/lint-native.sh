#!/usr/bin/env bash
# Formatter and linter of the C++ code: clang-format on all of it, clang-tidy (checks: .clang-tidy) on core and binding.
#   scripts/lint-native.sh format|tidy
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t sources < <(find native -name '*.cc' | sort)
mapfile -t headers < <(find native -name '*.h' | sort)

case "${1:-}" in
  format)
    clang-format --dry-run -Werror "${sources[@]}" "${headers[@]}"
    ;;
  tidy)
    cmake -S native -B build/tidy -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
      "-DCMAKE_JS_INC=$PWD/node_modules/node-api-headers/include;$PWD/node_modules/node-addon-api" >/dev/null
    printf '%s\n' "${sources[@]}" | grep -E '^native/(core|binding)/' |
      xargs -P "$(nproc)" -n 1 timeout 300 clang-tidy -p build/tidy --quiet --extra-arg=-Wno-unknown-warning-option --warnings-as-errors='*'
    ;;
  *)
    echo 'usage: scripts/lint-native.sh format|tidy' >&2
    exit 2
    ;;
esac
