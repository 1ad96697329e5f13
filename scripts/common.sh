# Shared by setup, demo and test: steps that are quiet when they succeed, and files that stay the checkout owner's.
# To be sourced from the root of the checkout.

# Everything runs under the Node and npm that scripts/runtime/package.json names, not those of the machine.
runtime=build/runtime
runtime_bin=$PWD/$runtime/node_modules/.bin
machine_path=${PATH//"$runtime_bin:"/}
export PATH="$runtime_bin:$machine_path:/usr/local/sbin:/usr/sbin:/sbin"
export npm_config_loglevel=error npm_config_progress=false npm_config_yes=true

logs=build/logs

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# The user that files of the checkout belong to, where root builds in somebody's checkout (sudo); else nothing.
checkout_owner() {
  if [ "$(id -u)" = 0 ] && [ "$(stat -c %u .)" != 0 ] && getent passwd "$(stat -c %u .)" >/dev/null; then
    stat -c %U .
  fi
}

# as_owner COMMAND...: runs it so that what it writes into the checkout belongs to the checkout's owner.
as_owner() {
  local owner
  owner=$(checkout_owner)
  if [ -z "$owner" ]; then
    "$@"
  else
    env HOME="$(getent passwd "$owner" | cut -d: -f6)" setpriv --reuid "$owner" --regid "$(id -g "$owner")" --init-groups "$@"
  fi
}

# What root wrote into the checkout (caches of test runs) goes to its owner.
give_back() {
  local owner
  owner=$(checkout_owner)
  [ -z "$owner" ] || chown -R "$owner:" build node_modules 2>/dev/null || true
}

log_of() {
  printf '%s/%s.log\n' "$logs" "$(tr -cs 'a-z0-9\n' - <<<"${1,,}")"
}

# step TEXT COMMAND...: one line with the time it took; the output goes to a log, whose end is shown where the command fails.
step() {
  local text=$1 log start=$SECONDS
  log=$(log_of "$text")
  shift
  printf '  %-44s ' "$text"
  if "$@" >"$log" 2>&1; then
    printf 'ok   %3d s\n' $((SECONDS - start))
  else
    local status=$?
    printf 'FAILED after %d s; the end of %s:\n' $((SECONDS - start)) "$log"
    tail -n 25 "$log" | sed 's/^/    /'
    return "$status"
  fi
}
