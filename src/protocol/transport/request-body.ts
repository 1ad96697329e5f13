/**
 * Reading a request's body into one buffer: the length is known and admitted before the first byte is taken,
 * and a body that stalls, drags or breaks off ends in an error instead of in held memory.
 */
import type { IncomingMessage } from 'node:http';
import { StillpointError } from '../../domain/base/errors.js';
import { BODY_BYTES_IN_TOTAL_TIME, SMALL_BODY_BYTES_MAX } from '../../domain/base/limits.js';
import { native } from '../../native/index.js';
import { BodyMemory } from './body-memory.js';
import type { ByteBudget } from './byte-budget.js';
import type { Laggards } from './laggards.js';

export interface BodyTimeouts {
  /** For a share of the memory that all bodies have together. */
  readonly admissionMs: number;
  /** Without any byte of a body, at most; noticed within twice this time. */
  readonly idleMs: number;
  /** For a whole body of BODY_BYTES_IN_TOTAL_TIME or less; a larger one has in proportion more. */
  readonly totalMs: number;
}

/** Of request bodies of SMALL_BODY_BYTES_MAX or less, and of larger ones. */
export interface BodyBudgets {
  readonly small: ByteBudget;
  readonly large: ByteBudget;
}

/** A block of 4 MiB takes ten minutes at 56 kbit/s alone; and it shares the link with another one. */
export function bodyTimeoutMs({ totalMs }: BodyTimeouts, bodyBytes: number): number {
  return Math.ceil(totalMs * Math.max(1, bodyBytes / BODY_BYTES_IN_TOTAL_TIME));
}

export const BODY_TIMEOUTS: BodyTimeouts = { admissionMs: 30_000, idleMs: 30_000, totalMs: 600_000 };

/**
 * Reads the body, hands it to `use`, and counts it against the budget until `use` has ended. `use` must not
 * keep the body when it resolves; when it rejects, something may still be reading it.
 */
export async function withBody<T>(
  request: IncomingMessage,
  options: {
    readonly owner: string;
    readonly bytesMax: number;
    readonly bodies: BodyBudgets;
    readonly memory: BodyMemory;
    readonly timeouts: BodyTimeouts;
  },
  use: (body: Buffer) => Promise<T>,
): Promise<T> {
  const length = bodyLength(request, options.bytesMax);
  const { bodies, memory, owner, timeouts } = options;
  const budget = length <= SMALL_BODY_BYTES_MAX ? bodies.small : bodies.large;
  const release = await budget.acquire(owner, BodyMemory.sizeOf(length), timeouts.admissionMs);
  try {
    const body = memory.take(length);
    await readBody(request, body, timeouts, budget.laggards);
    const answer = await use(body);
    memory.giveBack(body);
    return answer;
  } finally {
    release();
  }
}

/** @throws StillpointError `bad-message` without a length, `too-large` */
function bodyLength(request: IncomingMessage, bytesMax: number): number {
  const text = request.headers['content-length'];
  if (text === undefined) {
    throw new StillpointError('bad-message', {
      thing: 'request body',
      reason: 'its length is not announced (content-length)',
    });
  }
  const length = Number(text);
  if (!(length <= bytesMax)) {
    throw new StillpointError('too-large', {
      thing: 'request body',
      reason: `it has ${text.slice(0, 20)} bytes, and ${bytesMax} is the limit`,
      remedy: 'Send smaller messages.',
    });
  }
  return length;
}

function readBody(
  request: IncomingMessage,
  body: Buffer,
  timeouts: BodyTimeouts,
  laggards: Laggards,
): Promise<void> {
  const { length } = body;
  return new Promise((resolve, reject) => {
    let filled = 0;
    // Looked at now and then: a timer that each piece pushes back costs as much as decrypting it.
    let filledBefore = -1;
    const idle = setInterval(() => {
      if (filled === filledBefore) fail(slow(filled, length));
      filledBefore = filled;
    }, timeouts.idleMs);
    const total = setTimeout(() => fail(slow(filled, length)), bodyTimeoutMs(timeouts, length));
    const onData = (chunk: Buffer) => {
      filled += chunk.copy(body, filled);
      native.freeBuffer(chunk);
    };
    const onEnd = () => (filled === length ? settle(resolve) : fail(brokenOff(filled, length)));
    const onClose = () => fail(brokenOff(filled, length));
    const settle = (outcome: () => void) => {
      clearInterval(idle);
      clearTimeout(total);
      isOver();
      request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose);
      // Later errors of the connection concern nobody any more, but must not go unheard.
      request.on('error', () => undefined);
      outcome();
    };
    const fail = (error: StillpointError) => settle(() => reject(error));
    const isOver = laggards.add({
      bytes: BodyMemory.sizeOf(length),
      doneBytes: () => filled,
      breakOff: () => fail(slow(filled, length)),
    });
    request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose);
    if (request.destroyed) onClose();
  });
}

function slow(filled: number, length: number): StillpointError {
  return new StillpointError('timeout', {
    thing: 'request body',
    reason: `only ${filled} of its ${length} bytes came in time`,
    remedy: 'The message is sent again.',
    permanent: false,
  });
}

function brokenOff(filled: number, length: number): StillpointError {
  return new StillpointError('connection-lost', {
    thing: 'request body',
    reason: `it broke off after ${filled} of ${length} bytes`,
    permanent: false,
  });
}
