/**
 * What NBD clients may send but hardly one does, by scripts for nbdsh: the answers that the
 * NBD specification names.
 */
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { readRange } from '../../helpers/disks/images.js';
import { run } from '../../helpers/disks/loop-device.js';
import { nbdsh } from '../../helpers/disks/nbdsh.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { DATA_BYTES, succeeds, tapped, tappedData } from '../../helpers/worlds/tapped.js';

const BLOCK = 64 * KiB;
const NBDSH = programs('nbdsh', 'nbdinfo');

testWith(NBDSH, 'requests that the specification refuses, each with its error', async (t) => {
  const tap = await tapped(t, { sizeBytes: 128 * MiB + 512 });
  await tap.backup();
  const errors = await nbdsh(
    t,
    tap.uri,
    'h = connected("base:allocation")',
    'plain = connected(structured=False)',
    'size, K, M = h.get_size(), 1024, 1024 * 1024',
    'ignore = lambda *args: 0',
    'result = {',
    '  "read past the end": error(lambda: h.pread(K, size - 512)),',
    '  "read behind the end": error(lambda: h.pread(512, 1 << 62)),',
    '  "write past the end": error(lambda: h.pwrite(bytes(K), size - 512)),',
    '  "zero past the end": error(lambda: h.zero(K, size - 512)),',
    '  "trim past the end": error(lambda: h.trim(K, size - 512)),',
    '  "cache past the end": error(lambda: h.cache(K, size - 512)),',
    '  "status past the end": error(lambda: h.block_status(K, size - 512, ignore)),',
    '  "status of nothing": error(lambda: h.block_status(0, 0, ignore)),',
    '  "status without a context": error(lambda: plain.block_status(K, 0, ignore)),',
    '  "unaligned read": error(lambda: h.pread(512, 1)),',
    '  "unaligned write": error(lambda: h.pwrite(bytes(511), 0)),',
    '  "too long a read": error(lambda: h.pread(48 * M, 0)),',
    '  "too long a read in one piece": error(lambda: h.pread(48 * M, 0, nbd.CMD_FLAG_DF)),',
    '  "too long a write": error(lambda: h.pwrite(bytes(48 * M), 0)),',
    '  "a flag that is none": error(lambda: h.pwrite(bytes(512), 0, 1 << 14)),',
    '  "a flag of another command": error(lambda: h.trim(512, 0, nbd.CMD_FLAG_REQ_ONE)),',
    '  "DF without structured replies": error(lambda: plain.pread(512, 0, nbd.CMD_FLAG_DF)),',
    '  "afterwards": error(lambda: h.pwrite(b"x" * 512, size - 512)),',
    '  "afterwards, the other": error(lambda: plain.pwrite(b"y" * 512, 0)),',
    '}',
  );
  t.deepEqual(errors, {
    'read past the end': 'EINVAL',
    'read behind the end': 'EINVAL',
    'write past the end': 'ENOSPC',
    'zero past the end': 'ENOSPC',
    'trim past the end': 'EINVAL',
    'cache past the end': 'EINVAL',
    'status past the end': 'EINVAL',
    'status of nothing': 'EINVAL',
    'status without a context': 'EINVAL',
    'unaligned read': 'EINVAL',
    'unaligned write': 'EINVAL',
    'too long a read': 'EINVAL',
    'too long a read in one piece': 'EOVERFLOW',
    'too long a write': 'EINVAL',
    'a flag that is none': 'EINVAL',
    'a flag of another command': 'EINVAL',
    'DF without structured replies': 'EINVAL',
    afterwards: null,
    'afterwards, the other': null,
  });
  t.is(run('stat', '--format', '%s', tap.source).trim(), String(128 * MiB + 512), 'it has not grown');
  const { tracking, point } = await tap.checkPoint();
  t.true(tracking.used);
  t.is(point.statistics.changedBytes, BLOCK + 512, 'nothing but the last two');
});

testWith(NBDSH, 'what other clients do not send', async (t) => {
  const tap = await tappedData(t);
  await tap.backup();
  const result = (await nbdsh(
    t,
    tap.uri,
    'h, other = connected("base:allocation"), connected()',
    'extents, chunks = [], []',
    'def status(flags):',
    '  seen = []',
    '  h.block_status(h.get_size() - 65536, 65536, lambda context, at, entries, error: seen.extend(entries), flags)',
    '  return seen',
    'def pieces(flags):',
    '  seen = []',
    '  h.pread_structured(1 << 20, 0, lambda data, at, kind, error: seen.append([at, len(data)]), flags)',
    '  return seen',
    'h.pwrite(b"q" * 65536, 65536 * 40)',
    'h.flush()',
    'result = {',
    '  "context": h.can_meta_context("base:allocation"),',
    '  "one": status(nbd.CMD_FLAG_REQ_ONE), "all": status(0),',
    '  "cache": error(lambda: h.cache(1 << 20, 0)),',
    '  "pieces": pieces(0), "whole": pieces(nbd.CMD_FLAG_DF),',
    '  "seen by the other": other.pread(65536, 65536 * 40) == b"q" * 65536,',
    '  "fua": error(lambda: other.pwrite(b"r" * 512, 65536 * 41, nbd.CMD_FLAG_FUA)),',
    '  "zero": error(lambda: h.zero(65536, 65536, nbd.CMD_FLAG_FAST_ZERO)),',
    '  "allocated": error(lambda: h.zero(65536, 65536 * 2, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)),',
    '  "trim": error(lambda: h.trim(65536, 65536 * 3, nbd.CMD_FLAG_FUA)),',
    '  "nothing": error(lambda: h.pwrite(b"", 0)),',
    '}',
  )) as Record<string, unknown>;
  t.like(result, { context: true, cache: null, 'seen by the other': true, fua: null, whole: [[0, MiB]] });
  t.like(result, { zero: null, allocated: null, trim: null, nothing: null });
  t.deepEqual(result.one, [3 * BLOCK, 0]);
  t.deepEqual((result.all as number[]).slice(0, 4), [3 * BLOCK, 0, 36 * BLOCK, 3]);
  const pieces = result.pieces as [number, number][];
  t.is(
    pieces.reduce((sum, [, length]) => sum + length, 0),
    MiB,
  );
  const zeros = Buffer.alloc(3 * BLOCK);
  t.true((await readRange(tap.source, BLOCK, 3 * BLOCK)).equals(zeros), 'both zeroed, and trimmed');
  const map = JSON.parse(await succeeds(t, 'nbdinfo', '--map', '--json', tap.uri)) as { offset: number }[];
  t.deepEqual(map[1], { offset: 2 * BLOCK, length: BLOCK, type: 0, description: 'data' } as never);
  t.true((await tap.checkPoint()).tracking.used);
});

testWith(NBDSH, 'names of exports', async (t) => {
  const tap = await tappedData(t, '--export', 'Übung 1/ä');
  const names = await nbdsh(
    t,
    tap.uri,
    'h = nbd.NBD()',
    'h.set_opt_mode(True)',
    'h.connect_uri(uri)',
    'names, contexts = [], []',
    'h.opt_list(lambda name, description: names.append(name))',
    'h.opt_list_meta_context(lambda name: contexts.append(name))',
    'def go(name):',
    '  h.set_export_name(name)',
    '  return error(lambda: h.opt_info())',
    'result = [names, contexts, go("Übung 1"), go(""), go("x" * 4000), go("Übung 1/ä")]',
    'h.opt_go()',
    'result.append(h.get_size())',
  );
  t.deepEqual(names, [
    ['Übung 1/ä'],
    ['base:allocation'],
    'ENOENT',
    null, // the default
    'ENOENT',
    null,
    DATA_BYTES,
  ]);
});

testWith(NBDSH, 'a read-only tap refuses what writes', async (t) => {
  const tap = await tappedData(t, '--read-only');
  const result = await nbdsh(
    t,
    tap.uri,
    'h = connected()',
    'result = [h.is_read_only(), len(h.pread(1 << 20, 0)), error(lambda: h.flush()),',
    '  error(lambda: h.pwrite(b"x" * 512, 0)), error(lambda: h.pwrite(b"x" * 512, 512, nbd.CMD_FLAG_FUA)),',
    '  error(lambda: h.zero(512, 0)), error(lambda: h.trim(512, 0))]',
  );
  t.deepEqual(result, [true, MiB, null, 'EPERM', 'EPERM', 'EPERM', 'EPERM']);
  const { statistics } = (await tap.checkPoint()).point;
  t.is(statistics.changedBytes, 5 * BLOCK);
});
