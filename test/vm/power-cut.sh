#!/bin/bash
# Power cuts under write load, of a tapped /dev/vdb and of /dev/vdc, which has the state and the
# store; both lose what was not flushed. /dev/vdd takes what is restored. One boot for each
# argument: first, used, written.
set -euo pipefail
source test/vm/common.sh

# Writes until the power is gone: all over the first third, and onwards through the rest, so that clean
# regions are entered up to the end and some are never reached.
cut_under_load() {
  local before device=/run/stillpoint/taps/cut/device
  before=$(sectors_written $device)
  fio --filename=$device --direct=1 --ioengine=libaio --iodepth=8 --fsync=32 --randseed="$RANDOM" \
    --time_based --runtime=3000 --output=/dev/null \
    --name=all-over --rw=randwrite --bs=4k-64k --size=32m \
    --name=onwards --rw=write --bs=64k --offset=32m --size=64m --rate=6m &
  # Where programs start slowly, the load begins later.
  wait_until writes_since "$before" $device
  sleep 5
  kill -0 $! || fail 'the load has ended'
  echo 'CUT THE POWER'
  sleep 300
}

# The next backup, and what it restores to, are exactly the device.
prove() {
  backup /dev/vdb cut
  expect 'map used' "$1" "$(field "['tracking']['used']" <<<"$result")"
  field "['tracking']['reason']" <<<"$result"
  field "['point']['statistics']" <<<"$result"
  "$stillpoint" --quiet restore cut@latest /dev/vdd --store "$store" || fail restore
  cmp /dev/vdb /dev/vdd || fail 'the restored device differs'
}

say "power cut: $1"
[ "$1" != first ] || mkfs.ext4 -q /dev/vdc
mkdir -p /var/lib/stillpoint
mount /dev/vdc /var/lib/stillpoint
install_unit
case $1 in
  first)
    "$stillpoint" --quiet tap add /dev/vdb --name cut --attach || fail 'tap add'
    dd if=/dev/urandom of=/run/stillpoint/taps/cut/device bs=1M count=24 oflag=direct status=none
    prove False
    ;;
  used)
    started=$("$stillpoint" --json tap start cut) || fail "tap start: $started"
    named=$(field "['report']['status']['map']['changedBlocks']" <<<"$started")
    # Of 64 KiB: regions of the first third and of some of the rest.
    { [ "$named" -gt 512 ] && [ "$named" -lt 1536 ]; } || fail "the map names $named of 1536 blocks"
    printf '   blocks named by the map: %s of 1536\n' "$named"
    prove True
    ;;
  written)
    dd if=/dev/urandom of=/dev/vdb bs=64k count=1 seek=1000 oflag=direct status=none
    "$stillpoint" tap start cut || fail 'tap start'
    prove False
    say 'passed: power cut'
    exit
    ;;
esac
cut_under_load
