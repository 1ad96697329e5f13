#!/bin/bash
# Logical volumes on /dev/vdb, thick and thin, mounted and written to while they are backed up; /dev/vdc takes
# what is restored. What is restored must be what the snapshot that was kept of the point shows.
set -euo pipefail
source test/vm/common.sh

# backup DEVICE NAME: as in common.sh, by LVM; otherwise a volume in use is copied live.
backup() {
  result=$("$stillpoint" --json backup "$1" --name "$2" --store "$store" --provider lvm) || fail "backup: $result"
}

pvcreate -q /dev/vdb
vgcreate -q vg /dev/vdb
lvcreate -q -y -L 128M -n thick vg
lvcreate -q -y -T -L 1G --poolmetadatasize 16M vg/pool 2>/dev/null
lvcreate -q -y -V 320M -T vg/pool -n thin 2>/dev/null
restored=/mnt/restored
mkdir -p "$restored"

ours() { lvs --noheadings -o lv_name vg | tr -d ' ' | grep '^stillpoint-' || true; }
# held DEVICE_NAME: a session holds a snapshot of it.
held() { [[ $(lvs --noheadings -o lv_tags -S "origin=$1" vg) == *stillpoint-session=* ]]; }

# wait_held VOLUME: also on a machine that has much else to do.
wait_held() {
  local deadline=$((SECONDS + 300))
  until held "$1"; do
    [ "$SECONDS" -lt "$deadline" ] || fail "no session holds a snapshot of $1"
  done
}

# load DIRECTORY: into $load, the process.
load() {
  (
    cd "$1"
    exec fio --name=load --size=16m --rw=randwrite --bs=4k-64k --fsync=16 --rate=1m \
      --time_based --runtime=3000 --output=/dev/null
  ) &
  load=$!
}

# same_as_kept VOLUME: the last point is exactly the one snapshot that was kept of the volume.
same_as_kept() {
  local kept
  kept=$(lvs --noheadings -o lv_path -S "origin=$1" vg | tr -d ' ')
  [ "$(wc -w <<<"$kept")" = 1 ] || fail "not one snapshot is kept of $1: $kept"
  "$stillpoint" --quiet restore "$1@latest" /dev/vdc --store "$store" || fail restore
  [ "$1" = thick ] || lvchange -K -ay "vg/${kept##*/}"
  cmp -n "$(blockdev --getsize64 "$kept")" "$kept" /dev/vdc || fail 'the restored device is not the snapshot'
  # By UUID there is the volume, or what was restored of it.
  local shown
  shown=$(readlink -f "/dev/disk/by-uuid/$(lsblk --noheadings --output UUID "/dev/vg/$1")")
  [[ " $(readlink -f "/dev/vg/$1") /dev/vdc " == *" $shown "* ]] || fail "$shown is shown by its UUID"
  [ "$1" = thick ] || lvchange -an "vg/${kept##*/}"
}

# in_use VOLUME FILE_SYSTEM CHECK...: CHECK gets the device that was restored.
in_use() {
  local volume=$1 type=$2 options=$3 round
  shift 3
  say "$type on a $volume volume, mounted and written to"
  "mkfs.$type" -q "/dev/vg/$volume"
  mkdir -p "/srv/$volume"
  mount "/dev/vg/$volume" "/srv/$volume"
  cp -r src "/srv/$volume/kept"
  load "/srv/$volume"
  for round in first second; do
    sleep 2
    [ "$round" = first ] || fstrim "/srv/$volume" 2>/dev/null || true
    # Not flushed by anybody but the snapshot.
    head -c 100000 /dev/urandom >"/srv/$volume/$round"
    backup "$(readlink -f "/dev/vg/$volume")" "$volume"
    expect "provider of the $round point" lvm "$(field "['point']['provider']" <<<"$result")"
    expect "kind of the $round point" filesystem "$(field "['point']['kind']" <<<"$result")"
    expect 'map used' "$([ "$round" = first ] && echo False || echo True)" "$(field "['tracking']['used']" <<<"$result")"
    field "['tracking']['reason']" <<<"$result"
    field "['point']['statistics']" <<<"$result"
    same_as_kept "$volume"
  done
  kill -0 "$load" || fail 'the load has ended: a write has failed'
  kill "$load"
  wait "$load" || true
  # A frozen ext4 has nothing to be replayed; XFS leaves its log to the mount, on purpose.
  [ "$type" = xfs ] || "$@" /dev/vdc || fail "$*"
  mount -o "$options" /dev/vdc "$restored"
  diff -r src "$restored/kept" || fail 'files differ'
  cmp "/srv/$volume/second" "$restored/second" || fail 'a file that was not flushed differs'
  umount "$restored"
  "$@" /dev/vdc || fail "$*"
}

lvchange -q --addtag stillpoint-keep --addtag stillpoint-start=30 vg/thick
in_use thick ext4 defaults e2fsck -fn
in_use thin xfs nouuid xfs_repair -n
expect 'metadata held' - "$(dmsetup status vg-pool-tpool | cut -d' ' -f7)"

say 'killed: what the session held is removed by the next one, and its point is right'
for volume in thick thin; do
  head -c 16M /dev/urandom >"/srv/$volume/fresh"
  "$stillpoint" --quiet backup "/dev/vg/$volume" --name "$volume" --store "$store" --provider lvm --full &
  session=$!
  wait_held "$volume"
  kill -KILL "$session"
  wait "$session" || true
done
expect 'snapshots left' 4 "$(ours | wc -l)"
for volume in thick thin; do
  backup "/dev/mapper/vg-$volume" "$volume"
  expect 'map used' True "$(field "['tracking']['used']" <<<"$result")"
  same_as_kept "$volume"
done
expect 'snapshots left' 2 "$(ours | wc -l)"

say 'as the root file system: LVM has its own files on the volume'
cp -a /etc/lvm /srv/thick/lvm
mount --bind /srv/thick/lvm /etc/lvm
(
  while :; do
    head -c 64K /dev/urandom >/srv/thick/busy
    sync -f /srv/thick
  done
) &
busy=$!
backup /dev/vg/thick thick
kill "$busy"
wait "$busy" || true
expect kind filesystem "$(field "['point']['kind']" <<<"$result")"
expect suspended 0 "$(cat "/sys/block/$(basename "$(readlink -f /dev/vg/thick)")/dm/suspended")"
umount /etc/lvm
same_as_kept thick

say 'a snapshot that overflows gives no point'
lvchange -q --deltag stillpoint-keep --deltag stillpoint-start=30 --addtag stillpoint-start=4 --addtag stillpoint-max=4 vg/thick
points() { "$stillpoint" --json points --store "$store" | grep -o '"sequence":' | wc -l; }
before=$(points)
[ "$before" -gt 0 ] || fail 'there is no point to count'
"$stillpoint" --quiet backup /dev/vg/thick --name thick --store "$store" --provider lvm --full 2>/tmp/error &
session=$!
wait_held thick
kill -STOP "$session"
dd if=/dev/urandom of=/srv/thick/flood bs=1M count=24 conv=fsync status=none
kill -CONT "$session"
if wait "$session"; then fail 'it gave a point'; fi
grep -q 'more was written to the volume than the snapshot had room for' /tmp/error || fail "$(cat /tmp/error)"
expect points "$before" "$(points)"
expect 'snapshots of it' '' "$(lvs --noheadings -o lv_name -S origin=thick vg)"

say 'a group without room: another provider, and the reason'
lvcreate -q -y -l 100%FREE -n filler vg
inspected=$("$stillpoint" --json inspect /dev/vg/thick) || fail "inspect: $inspected"
expect usable False "$(field "['providers'][2]['usable']" <<<"$inspected")"
field "['providers'][2]['reason']" <<<"$inspected"
if "$stillpoint" backup /dev/vg/thick --name thick --store "$store" --provider lvm 2>/tmp/error; then fail 'it gave a point'; fi
grep -q 'its group has 0 bytes free' /tmp/error || fail "$(cat /tmp/error)"
lvremove -q -y vg/filler

say 'nobody uses it: idle; and a kept snapshot is no use that forbids a restore'
umount /srv/thin
inspected=$("$stillpoint" --json inspect /dev/vg/thin) || fail "inspect: $inspected"
expect uses '[]' "$(field "['uses']" <<<"$inspected")"
backup /dev/vg/thin thin
expect kind idle "$(field "['point']['kind']" <<<"$result")"
"$stillpoint" --quiet restore thin@latest /dev/vg/thin --store "$store" || fail restore
say 'passed: lvm'
