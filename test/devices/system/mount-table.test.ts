import test from 'ava';
import fc from 'fast-check';
import {
  type Mount,
  mountShownAt,
  namesOf,
  parseMountinfo,
  superOptions,
  unescapeOctal,
} from '../../../src/devices/system/mount-table.js';

test('the mount table: escapes, read-only file systems, optional fields', (t) => {
  const text = [
    '36 35 98:0 / /mnt/with\\040space rw,noatime master:1 - ext4 /dev/sdz1 ro,errors=continue',
    '37 35 0:50 /sub /data ro shared:7 propagate_from:2 - btrfs /dev/sdz2 rw,subvol=/sub',
    '38 35 0:51 / /tmp rw - tmpfs tmpfs rw',
    '39 35 0:52 /a\\134b /tab\\011new\\012line rw - fuse.x with\\040space rw',
    '',
  ].join('\n');
  t.deepEqual(parseMountinfo(text), [
    {
      id: 36,
      parentId: 35,
      number: '98:0',
      root: '/',
      mountPoint: '/mnt/with space',
      type: 'ext4',
      source: '/dev/sdz1',
      superReadOnly: true,
    },
    {
      id: 37,
      parentId: 35,
      number: '0:50',
      root: '/sub',
      mountPoint: '/data',
      type: 'btrfs',
      source: '/dev/sdz2',
      superReadOnly: false,
    },
    {
      id: 38,
      parentId: 35,
      number: '0:51',
      root: '/',
      mountPoint: '/tmp',
      type: 'tmpfs',
      source: 'tmpfs',
      superReadOnly: false,
    },
    {
      id: 39,
      parentId: 35,
      number: '0:52',
      root: '/a\\b',
      mountPoint: '/tab\tnew\nline',
      type: 'fuse.x',
      source: 'with space',
      superReadOnly: false,
    },
  ]);
});

test('garbage is no mount', (t) => {
  for (const text of ['', '\n\n', 'a b', ' - ', 'x - y - z', '1 2 3:4 /'])
    t.deepEqual(parseMountinfo(text), [], text);
});

test('any text parses, and what the kernel escapes comes back', (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseMountinfo(text);
    }),
  );
  const name = fc.string({ minLength: 1 }).map((text) => `/${text.replaceAll('\0', '')}`);
  // As the kernel's mangle does, fs/seq_file.c: seq_path with " \t\n\\".
  const mangle = (text: string): string =>
    text.replace(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  fc.assert(
    fc.property(name, name, (mountPoint, root) => {
      t.is(unescapeOctal(mangle(mountPoint)), mountPoint);
      const [mount] = parseMountinfo(`7 1 8:1 ${mangle(root)} ${mangle(mountPoint)} rw - ext4 /dev/sda1 rw`);
      t.like(mount, { id: 7, root, mountPoint });
    }),
  );
});

const at = (id: number, parentId: number, mountPoint: string): Mount => ({
  id,
  parentId,
  number: `8:${id}`,
  root: '/',
  mountPoint,
  type: 'ext4',
  source: `/dev/sda${id}`,
  superReadOnly: false,
});

test('what a path shows', (t) => {
  const mounts = [at(1, 0, '/'), at(2, 1, '/srv'), at(3, 2, '/srv/deep'), at(4, 1, '/srv2')];
  const shown = (path: string, table: readonly Mount[] = mounts): number | undefined =>
    mountShownAt(path, table)?.id;
  t.is(shown('/'), 1);
  t.is(shown('/etc/x'), 1);
  t.is(shown('/srv'), 2);
  t.is(shown('/srv/x'), 2);
  t.is(shown('/srv/deep/x'), 3);
  t.is(shown('/srv/deeper'), 2);
  t.is(shown('/srv2/x'), 4);
  // Stacked onto the same point: the last is shown. Over a directory above: it hides all below.
  t.is(shown('/srv', [...mounts, at(5, 2, '/srv')]), 5);
  t.is(shown('/srv/deep/x', [...mounts, at(5, 2, '/srv')]), 5);
  t.is(shown('/a/b/c', [...mounts, at(5, 1, '/a/b'), at(6, 1, '/a')]), 6);
  t.is(shown('/x', []), undefined);
  // The initial root is its own parent; a root whose parent is outside of a chroot.
  t.is(shown('/x', [at(1, 1, '/')]), 1);
  t.is(shown('/x', [at(9, 8, '/')]), 9);
});

test('options of a file system', (t) => {
  const text = [
    '36 35 0:40 / /a rw - btrfs /dev/sdz1 rw,compress=zstd:1',
    '7 35 0:41 / /b rw shared:1 - overlay overlay rw,upperdir=/with\\040space',
  ].join('\n');
  t.deepEqual(superOptions(text, 36), ['rw', 'compress=zstd:1']);
  t.deepEqual(superOptions(text, 7), ['rw', 'upperdir=/with space']);
  t.deepEqual(superOptions(text, 3), ['']);
});

test('all names of a path', (t) => {
  const bind = (id: number, mountPoint: string, root: string): Mount => ({
    ...at(id, 1, mountPoint),
    number: '8:1',
    root,
  });
  const mounts = [
    at(1, 0, '/'),
    bind(2, '/bound', '/srv'),
    bind(3, '/file', '/srv/x/file'),
    at(4, 1, '/other'),
    bind(5, '/all', '/'),
    bind(6, '/hidden', '/srv'),
    at(7, 6, '/hidden'),
  ];
  const names = (path: string) => namesOf(path, mounts).sort();
  const all = ['/all/srv/x/file', '/bound/x/file', '/file', '/srv/x/file'];
  for (const name of all) t.deepEqual(names(name), all, name);
  t.deepEqual(names('/srv'), ['/all/srv', '/bound', '/srv']);
  t.deepEqual(names('/srv2'), ['/all/srv2', '/srv2']);
  t.deepEqual(names('/other/x'), ['/other/x']);
  t.deepEqual(names('/'), ['/', '/all']);
  t.deepEqual(namesOf('/x', []), ['/x']);
});
