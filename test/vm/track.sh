#!/bin/bash
# Trackers on what the machine that runs the tests has not: NVMe and SCSI disks, partitions that the kernel
# found, device mapper, md, writes past the block layer, lockdown. /dev/vdb has the store, /dev/nvme0n1 and
# /dev/sda are written to. Each incremental point is compared with its device.
set -euo pipefail
source test/vm/common.sh
store=/mnt/store

# same DEVICE NAME: a backup of what changed, which the restored device equals.
same() {
  backup "$1" "$2"
  expect "marks of $1 used" "${3:-True}" "$(field "['point']['providerFacts']['marksUsed']" <<<"$result")"
  rm -f "$HOME"/restored
  "$stillpoint" --quiet restore "$2@latest" "$HOME"/restored --store $store >/dev/null || fail restore
  cmp "$1" "$HOME"/restored || fail "$1 differs from its point"
}

# write DEVICE: in several ways.
write_to() {
  fio --name=w --filename="$1" --rw=randwrite --bsrange=4k-256k --direct=1 --ioengine=libaio --iodepth=16 \
    --size=24M --io_size=12M --randrepeat=0 >/dev/null
  dd if=/dev/urandom of="$1" bs=1M count=2 seek=17 conv=fsync,notrunc status=none
  blkdiscard --offset 8M --length 1M "$1" 2>/dev/null || true
  blkdiscard --zeroout --offset 12M --length 1M "$1"
}

check() {
  say "$1"
  "$stillpoint" --quiet track add "$1" >/dev/null || fail "track add $1"
  backup "$1" "$2"
  for _ in 1 2 3; do
    write_to "$1"
    same "$1" "$2"
  done
}

mkdir -p $store
mkfs.ext4 -q /dev/vdb
mount /dev/vdb $store

check /dev/nvme0n1 nvme

say 'a partition, written through the disk'
echo '8M,40M' | sfdisk --quiet /dev/sda
udevadm settle
check /dev/sda1 partition
dd if=/dev/urandom of=/dev/sda bs=4k count=3 seek=$((3 * 1024)) oflag=direct conv=notrunc status=none
udevadm settle
same /dev/sda1 partition

say 'a write past the block layer'
python3 - /dev/sda $((12 * 2048)) <<'PYTHON'
import ctypes, fcntl, os, sys
class Header(ctypes.Structure):
    _fields_ = [('id', ctypes.c_int), ('direction', ctypes.c_int), ('command_length', ctypes.c_ubyte),
                ('sense_length', ctypes.c_ubyte), ('pieces', ctypes.c_ushort), ('length', ctypes.c_uint),
                ('data', ctypes.c_void_p), ('command', ctypes.c_void_p), ('sense', ctypes.c_void_p),
                ('timeout', ctypes.c_uint), ('flags', ctypes.c_uint), ('pack', ctypes.c_int),
                ('user', ctypes.c_void_p), ('status', ctypes.c_ubyte), ('masked', ctypes.c_ubyte),
                ('message', ctypes.c_ubyte), ('sense_written', ctypes.c_ubyte), ('host', ctypes.c_ushort),
                ('driver', ctypes.c_ushort), ('residue', ctypes.c_int), ('duration', ctypes.c_uint),
                ('info', ctypes.c_uint)]
path, sector = sys.argv[1], int(sys.argv[2])
data = ctypes.create_string_buffer(b'past the block layer'.ljust(512, b'.'), 512)
command = (ctypes.c_ubyte * 10)(0x2a, 0, *sector.to_bytes(4, 'big'), 0, 0, 1, 0)
sense = ctypes.create_string_buffer(32)
header = Header(id=ord('S'), direction=-2, command_length=10, sense_length=32, length=512,
                data=ctypes.addressof(data), command=ctypes.addressof(command), sense=ctypes.addressof(sense), timeout=5000)
fd = os.open(path, os.O_RDWR)
fcntl.ioctl(fd, 0x2285, header)
assert header.status == 0, header.status
PYTHON
udevadm settle
same /dev/sda1 partition False

say 'device mapper that cuts writes into parts'
sectors=$((24 * 2048))
{
  for ((at = 0; at < sectors; at += 56)); do
    length=$((sectors - at < 56 ? sectors - at : 56))
    echo "$at $length linear /dev/nvme0n1 $(((at / 56 % 2) * 65536 + at))"
  done
} >/tmp/table
dmsetup create parts /tmp/table
check /dev/mapper/parts parts
dmsetup remove parts

say 'lockdown'
for level in integrity confidentiality; do
  if ! echo $level >/sys/kernel/security/lockdown; then
    echo "skipped: the kernel does not take $level"
    continue
  fi
  "$stillpoint" --quiet track remove /dev/nvme0n1 >/dev/null
  "$stillpoint" --quiet track add /dev/nvme0n1 >/dev/null || fail "track add under $level"
  same /dev/nvme0n1 nvme False
  write_to /dev/nvme0n1
  same /dev/nvme0n1 nvme
done
say 'done'
