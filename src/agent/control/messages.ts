/**
 * The agent's control API: HTTP and JSON on a Unix socket, for this machine's owner of the state directory.
 *
 * NAME is that of a device or a group.
 *
 *   GET  /v1/status
 *   POST /v1/devices/NAME/backup   {"full": false}; NDJSON: {"event": ...}, the last one {"result": ...} or
 *                                  {"error": ...}. Of a group an event may say {"device": ...}, too.
 *                                  The end of the connection cancels the backup.
 *   POST /v1/devices/NAME/cancel
 *   POST /v1/devices/NAME/forget   a match of wildcards that has vanished
 *   POST /v1/pause                 {"name": null, "forMs": null}
 *   POST /v1/resume                {"name": null}
 *   POST /v1/reload
 *
 * An error is {"error": {"code", "thing", "reason", "remedy", "permanent"}} with a status of its own.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { runDirectory } from '../../config/state-directory.js';
import { NAME_CHARS_MAX } from '../../domain/base/names.js';

export const CONTROL_PREFIX = '/v1';

const name = z.string().max(NAME_CHARS_MAX);
export const backupWish = z.strictObject({ full: z.boolean() });
export const pauseWish = z.strictObject({
  name: name.nullable(),
  forMs: z
    .int()
    .min(1)
    .max(10 * 366 * 86_400_000)
    .nullable(),
});
export const resumeWish = z.strictObject({ name: name.nullable() });

export function agentSocketPath(
  stateDirectory: string,
  environment: Readonly<Record<string, string | undefined>>,
  userId: number,
): string {
  return join(runDirectory(stateDirectory, environment, userId), 'agent.sock');
}
