/** Addresses of the network as people write them. Pure. */
import { StillpointError } from './errors.js';

/** `HOST:PORT`, `[V6]:PORT`. @throws StillpointError `usage` */
export function parseHostPort(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host !== undefined && port <= 65_535) return { host, port };
  throw new StillpointError('usage', {
    thing: `address ${JSON.stringify(text.slice(0, 80))}`,
    reason: 'it is not HOST:PORT',
    remedy: 'Use for example backup.example.net:8441 or [::]:8441.',
  });
}
