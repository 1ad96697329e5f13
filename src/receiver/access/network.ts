/** Whom a peer's address stands for, where addresses are counted. Pure. */

/** One machine has all of an IPv6 network of 64 bits. */
export function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  const [front = '', back] = address.split('::');
  const groups = front.split(':');
  const behind = back === undefined || back === '' ? [] : back.split(':');
  const zeros = back === undefined ? 0 : Math.max(0, 8 - groups.length - behind.length);
  return [...groups, ...Array(zeros).fill('0'), ...behind].slice(0, 4).join(':');
}
