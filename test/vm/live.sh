#!/bin/bash
# The root disk, mounted and in use, is backed up live; the restored disk boots and has the files of the
# instant. /dev/vdb has the store, /dev/vdc takes what is restored. One boot for each argument: backup, and
# restored, of the restored disk.
set -euo pipefail
source test/vm/common.sh
store=/mnt/store

# Files 1, 2, 3, ...: each is on disk before the next is begun.
write_in_order() {
  mkdir -p /var/tmp/ordered
  for ((i = 1; ; i++)); do
    seq "$i" $((i + 999)) >"/var/tmp/ordered/$i"
    sync "/var/tmp/ordered/$i"
  done
}

say "live root: $1"
mkdir -p $store
case $1 in
  backup)
    root=$(findmnt --noheadings --output SOURCE /)
    mkfs.ext4 -q /dev/vdb
    mount /dev/vdb $store
    expect 'the provider of the root disk' live "$("$stillpoint" --json inspect "$root" | field "['chosen']")"
    write_in_order &
    writer=$!

    backup "$root" root
    expect kind filesystem "$(field "['point']['kind']" <<<"$result")"
    cp -r src /var/tmp/second
    backup "$root" root
    expect 'kind of the second' filesystem "$(field "['point']['kind']" <<<"$result")"
    expect 'marks used' True "$(field "['point']['providerFacts']['marksUsed']" <<<"$result")"
    scanned=$(field "['point']['statistics']['scannedBytes']" <<<"$result")
    [ "$scanned" -lt 400000000 ] || fail "the second one read $scanned bytes"
    echo "   frozen for $(field "['point']['providerFacts']['frozenMs']" <<<"$result") ms"

    kill $writer
    touch /var/tmp/after
    (cd /var/tmp/second && find . -type f -exec sha256sum {} + | sort) >$store/second.sums
    "$stillpoint" --quiet restore root@latest /dev/vdc --store $store/ >/dev/null || fail restore
    cmp <(blockdev --getsize64 "$root") <(blockdev --getsize64 /dev/vdc)

    say 'what no freeze stops: nothing is claimed'
    raw=/dev/vdd
    "$stillpoint" --quiet track add $raw >/dev/null
    before=$(sectors_written $raw)
    fio --name=w --filename=$raw --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8 --size=16M --time_based \
      --runtime=600 >/dev/null &
    writer=$!
    # Where programs start slowly, the load begins later.
    wait_until writes_since "$before" $raw
    # Now and then nobody writes in a cut: test/e2e/live/raw.test.ts restores such points.
    for ((tries = 1; ; tries++)); do
      "$stillpoint" --quiet backup $raw --name raw --store $store 2>/tmp/refused || break
      kill -0 $writer || fail 'the load has ended'
      [ $tries -lt 6 ] || fail 'each backup of a raw device that is written to made a point'
    done
    echo "   refused at try $tries"
    # On a slow machine it is not even copied quickly enough.
    grep -qE 'writes to it|changes faster' /tmp/refused || fail "$(cat /tmp/refused)"
    kill $writer
    wait $writer || true
    result=$("$stillpoint" --json backup $raw --name raw --store $store --wait-quiet 0.2) || fail "backup: $result"
    expect 'kind at rest' idle "$(field "['point']['kind']" <<<"$result")"
    ;;

  restored)
    mount -o ro /dev/vdb $store
    [ ! -e /var/tmp/after ] || fail 'a file that was written after the instant'
    (cd /var/tmp/second && sha256sum --quiet --check $store/second.sums) || fail 'files differ'
    count=$(find /var/tmp/ordered -type f | wc -l)
    for ((i = 1; i < count; i++)); do
      [ "$(wc -l <"/var/tmp/ordered/$i")" = 1000 ] || fail "file $i of $count is not whole"
    done
    echo "   $count ordered files"
    [ "$(systemctl is-system-running)" = running ] || systemctl --failed
    ;;
esac
say 'done'
