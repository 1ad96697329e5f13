# Sourced by the scripts of this directory, which run as root in a virtual machine, in the checkout.
# shellcheck shell=bash

stillpoint=$PWD/bin/stillpoint.js
store=/var/lib/stillpoint/store

say() { printf '== %s\n' "$*"; }

fail() {
  printf 'FAILED: %s\n' "$*"
  journalctl --no-pager --lines=50 --unit='stillpoint-*' || true
  exit 1
}

# The systemd unit, as docs/tap.md has it installed.
install_unit() {
  sed "s#/usr/bin/stillpoint#$PWD/bin/stillpoint.js#" 'packaging/systemd/stillpoint-tap@.service' \
    >'/etc/systemd/system/stillpoint-tap@.service'
  systemctl daemon-reload
}

install_deb() { DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$1"; }
pid_of() { systemctl show --property=MainPID --value "$1"; }

# field PYTHON: of the result that a command printed with --json, such as "['point']['kind']".
field() {
  python3 -c "import json, sys; print(json.loads(sys.stdin.read().splitlines()[-1])$1)"
}

# expect WHAT WANTED GOT
expect() {
  [ "$2" = "$3" ] || fail "$1 is $3, not $2"
  printf '   %s: %s\n' "$1" "$3"
}

# backup DEVICE NAME: into $result, the JSON.
backup() {
  result=$("$stillpoint" --json backup "$1" --name "$2" --store "$store") || fail "backup: $result"
}

# wait_until COMMAND...: succeeds, within five minutes: the machine may be an emulated one.
wait_until() {
  local deadline=$((SECONDS + 300))
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "not after five minutes: $*"
    sleep 0.2
  done
}

# sectors_written DEVICE: since the start of the machine, of 512 bytes.
sectors_written() { awk '{ print $7 }' "/sys/block/$(basename "$(readlink -f "$1")")/stat"; }
# writes_since SECTORS DEVICE
writes_since() { [ "$(sectors_written "$2")" -gt "$1" ]; }

tap_runs() {
  [ "$("$stillpoint" --json tap status "$1" | field "['running']")" = True ]
}
