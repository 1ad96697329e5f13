#!/bin/bash
# A tap of /dev/vdb under systemd, attached as a block device with file systems on it that are written to
# while they are backed up; /dev/vdc takes what is restored.
set -euo pipefail
source test/vm/common.sh

install_unit
device=/run/stillpoint/taps/srv/device

say 'add: the unit is started and enabled, the device is there'
added=$("$stillpoint" --json tap add /dev/vdb --name srv --attach) || fail "tap add: $added"
expect attached /dev/nbd0 "$(field "['report']['attachment']['device']" <<<"$added")"
expect unit 'active enabled' "$(systemctl is-active stillpoint-tap@srv) $(systemctl is-enabled stillpoint-tap@srv)"
expect link "$(readlink -f "$device")" /dev/nbd0
expect size "$(blockdev --getsize64 /dev/vdb)" "$(blockdev --getsize64 /dev/nbd0)"

# in_use FILE_SYSTEM CHECK...: CHECK gets the device that was restored.
in_use() {
  local type=$1 options=$2 load restored
  shift 2
  say "$type, mounted and written to"
  "mkfs.$type" -q -f "$device" 2>/dev/null || "mkfs.$type" -q -F "$device"
  mkdir -p /srv
  mount "$device" /srv
  cp -r src /srv/kept
  (
    cd /srv
    exec fio --name=load --size=24m --rw=randwrite --bs=4k-64k --numjobs=2 --fsync=16 --rate=2m \
      --time_based --runtime=3000 --output=/dev/null
  ) &
  load=$!
  sleep 2
  backup /dev/vdb srv
  expect "kind of the first point" filesystem "$(field "['point']['kind']" <<<"$result")"
  sleep 1
  backup /dev/nbd0 srv
  expect "kind of the second" filesystem "$(field "['point']['kind']" <<<"$result")"
  expect "map used" True "$(field "['tracking']['used']" <<<"$result")"
  kill -0 "$load" || fail 'the load has ended: a write has failed'
  if "$stillpoint" tap remove srv 2>/tmp/refused; then fail 'a mounted tap was removed'; fi
  grep -q 'mounted' /tmp/refused || fail "$(cat /tmp/refused)"
  kill "$load"
  wait "$load" || true
  umount /srv
  "$stillpoint" --quiet restore srv@latest /dev/vdc --store "$store" --verify || fail restore
  restored=/mnt/restored
  mkdir -p "$restored"
  [ "$type" = xfs ] || "$@" /dev/vdc || fail "$*"
  mount -o "$options" /dev/vdc "$restored"
  diff -r src "$restored/kept" || fail 'files differ'
  umount "$restored"
  "$@" /dev/vdc || fail "$*"
}

in_use ext4 defaults e2fsck -fn
# A frozen XFS leaves its log to be replayed by the mount, on purpose.
in_use xfs nouuid xfs_repair -n

say 'stopped and started by systemd: the map is precise'
systemctl stop stillpoint-tap@srv
[ ! -e /sys/block/nbd0/pid ] || fail 'it is still attached'
# A free one that somebody has open can't be attached: the tap gets the next one.
exec 9</dev/nbd0
systemctl start stillpoint-tap@srv
exec 9<&-
expect 'attached beside one that is open' /dev/nbd1 "$(readlink -f "$device")"
backup /dev/vdb srv
expect "map used" True "$(field "['tracking']['used']" <<<"$result")"
dd if=/dev/urandom of="$device" bs=64k count=1 seek=100 oflag=direct status=none

say 'killed: systemd starts it again, what was in flight fails, the map names regions'
fio --name=reads --filename="$device" --rw=randread --bs=4k --direct=1 --ioengine=libaio --iodepth=16 --time_based --runtime=3000 \
  --output=/dev/null 2>/dev/null &
reads=$!
sleep 3
kill -0 "$reads" || fail 'the reads have ended'
kill -KILL "$(systemctl show --property=MainPID --value stillpoint-tap@srv)"
sleep 1
wait_until tap_runs srv
if wait "$reads"; then fail 'reads of a dead device went well'; fi
expect 'not attached because of' None "$("$stillpoint" --json tap status srv | field "['report']['attachment']['problem']")"
backup /dev/vdb srv
expect "map used" True "$(field "['tracking']['used']" <<<"$result")"
expect "changed bytes" 65536 "$(field "['point']['statistics']['changedBytes']" <<<"$result")"
"$stillpoint" --quiet restore srv@latest /dev/vdc --store "$store"
cmp /dev/vdb /dev/vdc || fail 'the restored device differs'

say 'removed: detached, its unit off, the device as it was'
"$stillpoint" tap remove srv || fail 'tap remove'
[ ! -e "$device" ] || fail 'the link is still there'
expect unit 'inactive disabled' \
  "$(systemctl is-active stillpoint-tap@srv || true) $(systemctl is-enabled stillpoint-tap@srv 2>/dev/null || true)"
if compgen -G '/sys/block/nbd*/pid'; then fail 'it is still attached'; fi
cmp /dev/vdb /dev/vdc || fail 'the device differs'
say 'passed: tap'
