import test from 'ava';
import { detectImageFormat, IMAGE_MAGICS } from '../../../src/domain/device/image-format.js';

const NOTHING = Buffer.alloc(0);
const at = (byteOffset: number, text: string): Buffer => {
  const sector = Buffer.alloc(512);
  sector.write(text, byteOffset, 'latin1');
  return sector;
};

test('each format is told by its magic number, where it belongs', (t) => {
  for (const { format, at: where, byteOffset, bytes } of IMAGE_MAGICS) {
    const sector = at(byteOffset, bytes.toString('latin1'));
    t.is(where === 'head' ? detectImageFormat(sector, NOTHING) : detectImageFormat(NOTHING, sector), format);
  }
  t.is(detectImageFormat(at(0, 'QFI\xfb\x00\x00\x00\x03'), NOTHING), 'qcow2');
  t.is(detectImageFormat(at(0, 'QFI\xfb\x00\x00\x00\x01'), NOTHING), 'qcow');
  t.is(detectImageFormat(at(0, 'conectix'), NOTHING), 'VHD', 'one that grows');
  t.is(detectImageFormat(NOTHING, at(1, 'conectix')), 'VHD', 'a footer of 511 bytes');
});

test('raw disks and what is too short are no format', (t) => {
  t.is(detectImageFormat(NOTHING, NOTHING), null);
  t.is(detectImageFormat(Buffer.from('QF'), Buffer.from('conecti')), null);
  // A boot sector, LUKS, an ext4 volume's empty first sector; the magic number elsewhere.
  for (const sector of [
    at(510, '\x55\xaa'),
    at(0, 'LUKS\xba\xbe\0\x02'),
    at(0, ''),
    at(8, 'QFI\xfb'),
    at(65, '\x7f\x10\xda\xbe'),
  ])
    t.is(detectImageFormat(sector, sector), null);
});
