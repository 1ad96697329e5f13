import test from 'ava';
import { isLocal, nbdUri, parseListenAddress } from '../../../src/tap/registry/listen-address.js';

test('unix and tcp addresses are read', (t) => {
  t.deepEqual(parseListenAddress('unix:/run/a b.sock'), { kind: 'unix', path: '/run/a b.sock' });
  t.deepEqual(parseListenAddress('tcp:127.0.0.1:10809'), { kind: 'tcp', host: '127.0.0.1', port: 10809 });
  t.deepEqual(parseListenAddress('tcp:[::1]:0'), { kind: 'tcp', host: '::1', port: 0 });
});

test('others are refused with the reason', (t) => {
  const long = `unix:/${'x'.repeat(107)}`;
  for (const [text, reason] of [
    ['', /neither/],
    ['127.0.0.1:10809', /neither/],
    ['tcp:host', /neither/],
    ['tcp:host:65536', /neither/],
    ['tcp:::1:10809', /neither/],
    ['tcp:[]:1', /neither/],
    ['unix:run/a.sock', /absolute/],
    ['unix:', /absolute/],
    ['unix:/a\0b', /NUL/],
    [long, /107 bytes/],
  ] as const) {
    const error = t.throws(() => parseListenAddress(text), { code: 'usage' }, text);
    t.regex(error?.message ?? '', reason);
  }
  t.is(parseListenAddress(long.slice(0, -1)).kind, 'unix');
});

test('only addresses of this machine are local', (t) => {
  const local = (text: string): boolean => isLocal(parseListenAddress(text));
  for (const text of ['unix:/a', 'tcp:127.0.0.1:1', 'tcp:127.9.9.9:1', 'tcp:[::1]:1', 'tcp:localhost:1']) {
    t.true(local(text), text);
  }
  for (const text of ['tcp:0.0.0.0:1', 'tcp:[::]:1', 'tcp:192.0.2.1:1', 'tcp:127.0.0.1.example.net:1']) {
    t.false(local(text), text);
  }
});

test('NBD URIs are those of the specification', (t) => {
  t.is(nbdUri('unix:/run/a b.sock', 'disk'), 'nbd+unix:///disk?socket=/run/a%20b.sock');
  t.is(nbdUri('unix:/a?b&c#d+%.sock', 'disk'), 'nbd+unix:///disk?socket=/a%3Fb%26c%23d%2B%25.sock');
  t.is(nbdUri('tcp:[::1]:10809', ''), 'nbd://[::1]:10809/');
  t.is(nbdUri('tcp:127.0.0.1:1', 'a/b'), 'nbd://127.0.0.1:1/a%2Fb');
});
