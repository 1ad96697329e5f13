/** A decorator of the receiver that counts the bodies of a session's messages, both directions. */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type {
  BeginRequest,
  CommitRequest,
  NodeRequest,
  PointsOptions,
} from '../../domain/session/messages.js';
import type { DataPort } from '../../protocol/port/receiver.js';

const jsonBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value));

export class WireCounter implements DataPort {
  readonly #receiver: DataPort;
  #bytes = 0;

  constructor(receiver: DataPort) {
    this.#receiver = receiver;
  }

  get bytes(): number {
    return this.#bytes;
  }

  info() {
    return this.#receiver.info();
  }

  points(device?: string, options?: PointsOptions) {
    return this.#receiver.points(device, options);
  }

  partialSets(device?: string) {
    return this.#receiver.partialSets(device);
  }

  begin(request: BeginRequest) {
    return this.#json(request, this.#receiver.begin(request));
  }

  async have(sessionId: string, digests: Uint8Array) {
    return this.#bodies(digests.length, await this.#receiver.have(sessionId, digests));
  }

  async pieces(sessionId: string, blockIndexes: readonly number[]) {
    return this.#bodies(jsonBytes({ blockIndexes }), await this.#receiver.pieces(sessionId, blockIndexes));
  }

  batch(sessionId: string, sequence: number, body: Uint8Array) {
    this.#bytes += body.length;
    return this.#json(undefined, this.#receiver.batch(sessionId, sequence, body));
  }

  status(sessionId: string) {
    return this.#json(undefined, this.#receiver.status(sessionId));
  }

  commit(sessionId: string, request: CommitRequest) {
    return this.#json(request, this.#receiver.commit(sessionId, request));
  }

  abort(sessionId: string) {
    return this.#receiver.abort(sessionId);
  }

  async nodes(pointId: string, requests: readonly NodeRequest[]) {
    return this.#bodies(jsonBytes(requests), await this.#receiver.nodes(pointId, requests));
  }

  async compareNodes(question: Uint8Array) {
    return this.#bodies(question.length, await this.#receiver.compareNodes(question));
  }

  async blocks(pointId: string, blockIndexes: readonly number[]) {
    return this.#bodies(jsonBytes(blockIndexes), await this.#receiver.blocks(pointId, blockIndexes));
  }

  verify(pointId?: string) {
    return this.#receiver.verify(pointId);
  }

  check(pointId: string, ranges?: readonly BlockRange[]) {
    return this.#lines({ pointId, ranges }, this.#receiver.check(pointId, ranges));
  }

  diff(fromId: string, toId: string) {
    return this.#lines({ from: fromId, to: toId }, this.#receiver.diff(fromId, toId));
  }

  #bodies(requestBytes: number, answer: Uint8Array): Uint8Array {
    this.#bytes += requestBytes + answer.length;
    return answer;
  }

  async *#lines<T>(request: unknown, events: AsyncIterable<T>): AsyncGenerator<T> {
    this.#bytes += jsonBytes(request);
    for await (const event of events) {
      this.#bytes += jsonBytes(event) + 1;
      yield event;
    }
  }

  async #json<T>(request: unknown, answering: Promise<T>): Promise<T> {
    if (request !== undefined) this.#bytes += jsonBytes(request);
    const answer = await answering;
    this.#bytes += jsonBytes(answer);
    return answer;
  }
}
