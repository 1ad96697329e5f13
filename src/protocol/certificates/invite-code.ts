/**
 * The one-time code that a person carries from the receiver to the agent: 4 bits of version, 128 bits of the
 * pin (the first half of the SHA-256 of the receiver's CA certificate), 128 bits of secret; in groups of four
 * letters and digits (base32 without I, L, O, U), and a last group that checks the others. Typing is
 * forgiving: case, spaces and dashes don't matter, O reads as 0, I and L as 1.
 */
import { createHash, timingSafeEqual, type X509Certificate } from 'node:crypto';
import { StillpointError } from '../../domain/base/errors.js';
import { fingerprint } from './certificate-identity.js';

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const VERSION = 1n;
const PART_BYTES = 16;
const GROUP_CHARS = 4;
/** 4 + 128 + 128 bits, five to a character. */
const PAYLOAD_CHARS = 52;

export interface InviteCode {
  /** 16 bytes. */
  readonly pin: Buffer;
  /** 16 bytes. */
  readonly secret: Buffer;
}

export function pinOf(authority: X509Certificate): Buffer {
  return fingerprint(authority).subarray(0, PART_BYTES);
}

export function matchesPin(authority: X509Certificate, pin: Buffer): boolean {
  return timingSafeEqual(pinOf(authority), pin);
}

export function encodeInviteCode({ pin, secret }: InviteCode): string {
  const number = (VERSION << 256n) | BigInt(`0x${pin.toString('hex')}${secret.toString('hex')}`);
  let payload = '';
  for (let shift = BigInt(PAYLOAD_CHARS - 1) * 5n; shift >= 0n; shift -= 5n) {
    payload += ALPHABET.charAt(Number((number >> shift) & 31n));
  }
  return (payload + checkGroup(payload)).match(/.{4}/g)?.join('-') ?? '';
}

/** @throws StillpointError `invite-invalid` for anything that is not a whole code without typing mistakes */
export function decodeInviteCode(text: string): InviteCode {
  const chars = text.toUpperCase().replace(/[\s-]/g, '').replace(/O/g, '0').replace(/[IL]/g, '1');
  if (chars.length !== PAYLOAD_CHARS + GROUP_CHARS) {
    throw mistyped(`it has ${chars.length} letters and digits, not ${PAYLOAD_CHARS + GROUP_CHARS}`);
  }
  const stranger = [...chars].find((char) => !ALPHABET.includes(char));
  if (stranger !== undefined) throw mistyped(`${JSON.stringify(stranger)} occurs in no code`);
  const payload = chars.slice(0, PAYLOAD_CHARS);
  if (checkGroup(payload) !== chars.slice(PAYLOAD_CHARS)) {
    throw mistyped('its last group does not fit the others, so there is a typing mistake in it');
  }
  let number = 0n;
  for (const char of payload) number = (number << 5n) | BigInt(ALPHABET.indexOf(char));
  if (number >> 256n !== VERSION) throw mistyped('its version is not that of this agent');
  const hex = (number & ((1n << 256n) - 1n)).toString(16).padStart(64, '0');
  return {
    pin: Buffer.from(hex.slice(0, 2 * PART_BYTES), 'hex'),
    secret: Buffer.from(hex.slice(2 * PART_BYTES), 'hex'),
  };
}

function checkGroup(payload: string): string {
  const digest = createHash('sha256').update(`stillpoint 2026 invite code v1 ${payload}`).digest();
  let group = '';
  for (let i = 0; i < GROUP_CHARS; i += 1) group += ALPHABET.charAt(digest.readUInt8(i) & 31);
  return group;
}

function mistyped(reason: string): StillpointError {
  return new StillpointError('invite-invalid', {
    thing: 'invite code',
    reason,
    remedy: 'Compare it with what "stillpoint receiver invite" printed.',
  });
}
