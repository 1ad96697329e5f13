/**
 * A command that runs as a service until it is stopped: systemd hears when it serves, reads its settings anew
 * (SIGHUP), stops, and that it is alive.
 */

import type { Logger } from 'pino';
import { serviceNotifier } from '../../config/systemd.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { CommandContext } from '../common/context.js';

export interface Service {
  /** One line. */
  readonly status: string;
  /** Whether it can do its work: more than that a timer runs. */
  isAlive(): boolean | Promise<boolean>;
  /** @throws whatever is wrong with the new settings; the old ones then stay */
  reload(): Promise<void>;
}

/** @returns when the command is told to stop. */
export async function serveUntilStopped(
  { environment, signal, stdout }: CommandContext,
  log: Logger,
  service: Service,
): Promise<void> {
  const notifier = serviceNotifier(
    environment,
    () => service.isAlive(),
    (reason) => log.error({ reason }, 'systemd is not told'),
  );
  let reloading = Promise.resolve();
  const onHangup = (): void => {
    reloading = reloading.then(async () => {
      await notifier.reloading();
      await service.reload().then(
        () => log.info({ event: 'config-applied' satisfies LogEvent }, 'configuration applied'),
        (error: Error) =>
          log.error(
            { event: 'config-refused' satisfies LogEvent, reason: error.message },
            'the new configuration is refused; the old one stays',
          ),
      );
      await notifier.ready();
    });
  };
  // The end of a terminal still ends what was started there.
  const isService = stdout.isTTY !== true;
  if (isService) process.on('SIGHUP', onHangup);
  try {
    await notifier.status(service.status);
    await notifier.ready();
    if (!signal.aborted) await new Promise((stop) => signal.addEventListener('abort', stop, { once: true }));
  } finally {
    notifier.close();
    if (isService) process.off('SIGHUP', onHangup);
    await reloading;
    await notifier.stopping();
  }
}
