/** Our own side with a relay between agent and receiver, which counts what the network sees. */
import { CountingProxy } from './counting-proxy.js';
import { freePort, Installation } from './stillpoint.js';

/** @param directory of the installation, which is made anew and removed at the end */
export async function withRelay<T>(
  directory: string,
  work: (installation: Installation, relay: CountingProxy) => Promise<T>,
): Promise<T> {
  const port = await freePort();
  const relay = await CountingProxy.listen(port);
  let installation: Installation | null = null;
  try {
    const url = (receiverPort: number) => {
      relay.targetPort = receiverPort;
      return `https://127.0.0.1:${port}`;
    };
    installation = await Installation.make(directory, { url });
    return await work(installation, relay);
  } finally {
    await installation?.remove();
    await relay.close();
  }
}
