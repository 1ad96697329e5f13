# Shared by setup, demo and test: steps that are quiet when they succeed, and files that stay the checkout
# owner's. To be sourced from the root of the checkout.

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

# The user that files of the checkout belong to, where root builds in somebody's
# checkout (sudo); else nothing.
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

# report TEXT STATUS SECONDS: the line of a step that ended, and the end of its log where it
# failed. Its status is STATUS.
report() {
  local text=$1 status=$2 seconds=$3 log
  log=$(log_of "$text")
  printf '  %-44s ' "$text"
  if [ "$status" = 0 ]; then
    printf 'ok   %3d s\n' "$seconds"
  else
    printf 'FAILED after %d s; the end of %s:\n' "$seconds" "$log"
    tail -n 25 "$log" | sed 's/^/    /'
  fi
  return "$status"
}

# step TEXT COMMAND...: one line with the time it took; the output goes to a log.
step() {
  local text=$1 start=$SECONDS status=0
  shift
  "$@" >"$(log_of "$text")" 2>&1 || status=$?
  report "$text" "$status" $((SECONDS - start))
}

# idle COMMAND...: runs it on what time of the processors others leave.
idle() {
  if chrt --idle 0 true 2>/dev/null; then chrt --idle 0 "$@"; else nice -n 19 "$@"; fi
}

# begin TEXT COMMAND...: a step that runs beside the next ones.
# finish TEXT: waits for it, and prints its line.
declare -A begun=()
begin() {
  local text=$1
  shift
  # Of an earlier run: who ends without one has failed.
  rm -f "$(log_of "$text").result"
  # In a process group of its own, which can be ended as a whole.
  set -m
  (
    start=$SECONDS status=0
    "$@" >"$(log_of "$text")" 2>&1 || status=$?
    printf '%d %d\n' "$status" $((SECONDS - start)) >"$(log_of "$text").result"
  ) </dev/null &
  begun[$text]=$!
  set +m
}

finish() {
  local text=$1 status=1 seconds=0
  wait "${begun[$text]}" || true
  unset "begun[$text]"
  read -r status seconds <"$(log_of "$text").result" || true
  report "$text" "$status" "$seconds"
}

# For an end in between.
end_what_began() {
  local group
  for group in "${begun[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
}
