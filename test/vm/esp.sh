#!/bin/bash
# A disk as most machines have one: an EFI system partition (FAT, which can't be frozen) and a file system,
# both mounted. /dev/vdb has the store, /dev/vdc is backed up whole.
set -euo pipefail
source test/vm/common.sh
store=/mnt/store
disk=/dev/vdc

kind() { field "['point']['kind']" <<<"$result"; }
warnings() { field "['warnings']" <<<"$result"; }

mkdir -p $store /mnt/esp /mnt/data
mkfs.ext4 -q /dev/vdb
mount /dev/vdb $store
printf 'label: gpt\nsize=64M, type=uefi\ntype=linux\n' | sfdisk --quiet $disk
udevadm settle
mkfs.vfat "${disk}1" >/dev/null
mkfs.ext4 -q "${disk}2"
mount "${disk}1" /mnt/esp
mount "${disk}2" /mnt/data
cp -r src /mnt/esp/src

say 'FAT at rest beside a busy file system: as if it had been frozen'
fio --name=w --directory=/mnt/data --rw=randwrite --bs=4k --direct=1 --size=32M --time_based --runtime=600 \
  --rate=1M >/dev/null &
writer=$!
for _ in first second third; do
  echo "$RANDOM" >/mnt/esp/number
  backup $disk esp
  expect kind filesystem "$(kind)"
  expect warnings '[]' "$(warnings)"
done
expect 'marks used' True "$(field "['point']['providerFacts']['marksUsed']" <<<"$result")"

say 'FAT that is written to: no more is claimed than is so'
(for ((i = 0; ; i++)); do
  dd if=/dev/urandom of=/mnt/esp/busy bs=64k count=4 conv=fsync status=none
done) &
busy=$!
# With a warning it is not exit code 0.
result=$("$stillpoint" --json backup $disk --name esp --store "$store" 2>&1 || true)
if grep -q '"event":"result"' <<<"$result"; then
  expect kind crash "$(kind)"
  warnings | grep -q "/mnt/esp was not frozen: vfat can't be" || fail "$(warnings)"
else
  grep -q 'no freeze has stopped' <<<"$result" || fail "$result"
  echo '   refused'
fi
kill $busy
wait $busy || true

say 'FAT alone'
backup "${disk}1" alone
expect kind filesystem "$(kind)"
kill $writer
wait $writer || true

say 'what was restored'
umount /mnt/esp /mnt/data
backup $disk esp
"$stillpoint" --quiet restore esp@3 /var/tmp/restored --store $store >/dev/null || fail restore
loop=$(losetup --find --show --partscan /var/tmp/restored)
udevadm settle
# It was mounted, which is all that may be wrong with it.
fsck.vfat -a "${loop}p1" || true
fsck.vfat -n "${loop}p1" || fail 'fsck of FAT'
fsck.ext4 -fn "${loop}p2" || fail 'fsck of ext4'
mount -o ro "${loop}p1" /mnt/esp
diff -r src /mnt/esp/src
say 'done'
