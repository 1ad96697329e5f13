import test from 'ava';
import { sharedKind, type WayToDisk } from '../../../src/devices/system/shared-devices.js';

const way = (facts: Partial<WayToDisk>): string | null =>
  sharedKind({
    ...{
      name: 'sda',
      directory: '/sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda',
    },
    ...{ nvmeTransports: [], scsiDriver: null },
    ...facts,
  });

test('disks of this machine are written to through its kernel only', (t) => {
  t.is(way({ scsiDriver: 'ahci' }), null);
  t.is(way({ name: 'nvme0n1', nvmeTransports: ['pcie'] }), null);
  for (const name of ['vda', 'xvda', 'dm-0', 'md0', 'loop3', 'mmcblk0', 'zd16'])
    t.is(way({ name }), null, name);
});

test('what others can write to is told by its name, its place or the way to it', (t) => {
  for (const name of ['nbd0', 'rbd1', 'drbd2', 'rnbd0', 'etherd!e1.1', 'ublkb0', 'mtdblock3'])
    t.not(way({ name }), null, name);
  t.is(
    way({ directory: '/sys/devices/platform/host2/session1/target2:0:0/2:0:0:0/block/sdb' }),
    'an iSCSI disk',
  );
  t.is(
    way({
      directory: '/sys/devices/pci0000:00/0000:00:05.0/host1/rport-1:0-2/target1:0:0/1:0:0:0/block/sdc',
    }),
    'a Fibre Channel disk',
  );
  for (const transport of ['tcp', 'rdma', 'fc', 'loop'])
    t.regex(way({ name: 'nvme1n1', nvmeTransports: ['pcie', transport] }) ?? '', /NVMe disk over a network/);
  t.regex(way({ scsiDriver: 'ib_srp' }) ?? '', /over a network/);
});
