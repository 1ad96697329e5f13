/** A client of an NBD export that writes, and waits for each answer. */
import { createConnection, type Socket } from 'node:net';

const CLIENT_FLAGS = 3;
const OPTION_EXPORT_NAME = 1;
const HELLO_BYTES = 18;
const EXPORT_BYTES = 10;
const REPLY_BYTES = 16;
const REQUEST_MAGIC = 0x25609513;
const COMMAND_WRITE = 1;

export class NbdWriter {
  readonly #socket: Socket;
  #bytes = Buffer.alloc(0);
  #wake: () => void = () => undefined;
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#wake();
    });
    // Told by what waits for an answer, or asks for one.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#isClosed = true;
      this.#wake();
    });
  }

  static async connect(socketPath: string, exportName: string): Promise<NbdWriter> {
    const writer = new NbdWriter(createConnection(socketPath));
    await writer.#take(HELLO_BYTES);
    const hello = Buffer.alloc(20);
    hello.writeUInt32BE(CLIENT_FLAGS, 0);
    hello.write('IHAVEOPT', 4, 'ascii');
    hello.writeUInt32BE(OPTION_EXPORT_NAME, 12);
    hello.writeUInt32BE(exportName.length, 16);
    writer.#socket.write(Buffer.concat([hello, Buffer.from(exportName)]));
    await writer.#take(EXPORT_BYTES);
    return writer;
  }

  /** Resolves when it is answered. */
  async write(byteOffset: number, bytes: Buffer): Promise<void> {
    const request = Buffer.alloc(28);
    request.writeUInt32BE(REQUEST_MAGIC, 0);
    request.writeUInt16BE(COMMAND_WRITE, 6);
    request.writeBigUInt64BE(BigInt(byteOffset), 16);
    request.writeUInt32BE(bytes.length, 24);
    this.#socket.write(Buffer.concat([request, bytes]));
    const error = (await this.#take(REPLY_BYTES)).readUInt32BE(4);
    if (error !== 0) throw new Error(`the write failed: ${error}`);
  }

  /** What still waits is not answered. */
  close(): void {
    this.#socket.removeAllListeners('close').destroy();
  }

  async #take(length: number): Promise<Buffer> {
    while (this.#bytes.length < length) {
      if (this.#isClosed) throw new Error('the export is gone');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const taken = this.#bytes.subarray(0, length);
    this.#bytes = this.#bytes.subarray(length);
    return taken;
  }
}
