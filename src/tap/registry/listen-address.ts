/** Where a tap listens: `unix:PATH` or `tcp:HOST:PORT`, an IPv6 address in brackets. Pure. */
import { StillpointError } from '../../domain/base/errors.js';

export type ListenAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number };

/** Of sockaddr_un.sun_path, without the byte that ends it (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;
const PORT_MAX = 65_535;

/** @throws StillpointError `usage` */
export function parseListenAddress(text: string): ListenAddress {
  if (text.startsWith('unix:')) return { kind: 'unix', path: checkSocketPath(text.slice('unix:'.length)) };
  const [, bracketed, plain, portText = ''] =
    /^tcp:(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})$/.exec(text) ?? [];
  const [host, port] = [bracketed ?? plain, Number(portText)];
  if (host === undefined || port > PORT_MAX) {
    throw new StillpointError('usage', {
      thing: `listen address ${JSON.stringify(text)}`,
      reason: 'it is neither unix:PATH nor tcp:HOST:PORT',
      remedy: 'Write for example unix:/run/vm1.sock, tcp:127.0.0.1:10809 or tcp:[::1]:10809.',
    });
  }
  return { kind: 'tcp', host, port };
}

/** @throws StillpointError `usage` */
export function checkSocketPath(path: string): string {
  const problem = !path.startsWith('/')
    ? 'it is not an absolute path'
    : path.includes('\0')
      ? 'it has a NUL character'
      : Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX
        ? `it has more than ${SOCKET_PATH_BYTES_MAX} bytes, the most that the kernel allows for a socket`
        : null;
  if (problem === null) return path;
  throw new StillpointError('usage', {
    thing: `socket ${JSON.stringify(path)}`,
    reason: problem,
    remedy: 'Choose a shorter absolute path, a shorter name of the tap, or a shorter state directory.',
  });
}

/** Nobody but this machine's own users can connect. */
export function isLocal(address: ListenAddress): boolean {
  if (address.kind === 'unix') return true;
  const { host } = address;
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** The URI that NBD clients take (NBD URI specification). */
export function nbdUri(text: string, exportName: string): string {
  const address = parseListenAddress(text);
  const name = encodeURIComponent(exportName);
  if (address.kind === 'unix') {
    return `nbd+unix:///${name}?socket=${address.path.split('/').map(encodeURIComponent).join('/')}`;
  }
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}:${address.port}/${name}`;
}
