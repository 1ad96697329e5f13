import test from 'ava';
import { isGenericId, stableById } from '../../../src/domain/device/device-facts.js';

const GENERIC = [
  ...[
    'QM00005',
    'drive-scsi0',
    'drive-virtio-disk1',
    'drive-ide0-0-1',
    '00000000',
    '0000000000000001',
    'FFFFFFFF',
  ],
  ...[
    '0123456789ABCDEF',
    '0123456789abcdef',
    '123456789012',
    '1234567890',
    '',
    'None',
    'To be filled by O.E.M.',
  ],
  't10.ATA     QEMU HARDDISK                           QM00005             ',
  'naa.0000000000000000',
  `nvme.1b36-${Buffer.from('drive-nvme0').toString('hex')}-51454d55-00000001`,
  'ata-QEMU_HARDDISK_QM00001-part2',
  'scsi-0QEMU_QEMU_HARDDISK_drive-scsi0',
  'usb-Generic_Flash_Disk_0123456789ABCDEF-0:0-part1',
  'mmc-SD16G_0x00000000',
  'wwn-0x0000000000000000',
  ...['dm-name-vg-home', 'md-name-host:0', 'dm-uuid-CRYPT-PLAIN-swap'],
  ...['00000000-01', '00000000-0000-0000-0000-000000000000'],
];

const TELLING = [
  ...['S21PNXAG441016D', 'WD-WCC4E0123456', 'rootdisk', '2f8e1c', 'VB1a2b3c4d-5e6f7a8b'],
  ...['naa.5000c500a1b2c3d4', 'eui.0025385b71b0a1c2', 'eui.6479a74c9a30b2ab0000000000000001'],
  `nvme.144d-${Buffer.from('S4EVNF0M').toString('hex')}-53616d73756e67-00000001`,
  ...['ata-Samsung_SSD_850_EVO_250GB_S21PNXAG441016D-part1', 'wwn-0x5000c500a1b2c3d4', 'virtio-rootdisk'],
  `dm-uuid-LVM-${'aB3'.repeat(21)}x`,
  ...['0f1e2d3c', '0f1e2d3c-01', '3e7a0d2c-51bb-4b6e-9d1f-0a4c8e6f7b21'],
];

for (const id of GENERIC) test(`proves nothing: ${JSON.stringify(id)}`, (t) => t.true(isGenericId(id)));
for (const id of TELLING) test(`tells a device: ${JSON.stringify(id)}`, (t) => t.false(isGenericId(id)));

test('the name that a LUKS mapping was opened under is not of the device', (t) => {
  const uuid = `dm-uuid-CRYPT-LUKS1-${'0f'.repeat(16)}`;
  t.is(stableById(`${uuid}-home`), uuid);
  t.is(stableById('dm-uuid-LVM-abc-cow'), 'dm-uuid-LVM-abc-cow');
});
