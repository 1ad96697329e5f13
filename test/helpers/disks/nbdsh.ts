/** Scripts for nbdsh: clients that do on the wire exactly what a test says. */
import type { ExecutionContext } from 'ava';
import { succeeds } from '../worlds/tapped.js';

/**
 * Runs Python with libnbd; `error(call)` is the name of the error that the call ended with, else None;
 * `connected(...contexts)` a handle that sends also what it should not.
 * @returns the `result` that it leaves.
 */
export async function nbdsh(t: ExecutionContext, uri: string, ...lines: string[]): Promise<unknown> {
  const script = [
    'import json, nbd',
    'def error(call):',
    '  try: call()',
    '  except nbd.Error as failed: return failed.errno or "no errno"',
    `uri = ${JSON.stringify(uri)}`,
    'def connected(*contexts, structured=True):',
    '  h = nbd.NBD()',
    '  h.set_strict_mode(0)',
    '  h.set_request_structured_replies(structured)',
    '  for context in contexts: h.add_meta_context(context)',
    '  h.connect_uri(uri)',
    '  return h',
    ...lines,
    'print(json.dumps(result))',
  ].join('\n');
  return JSON.parse(await succeeds(t, 'nbdsh', '-c', script));
}
