/** The certificate and the name of this machine at a receiver, kept up to date while it is connected. */
import { isRenewalDue, renewIfDue, takeName } from '../../agent/state/renewal.js';
import { isStillpointError } from '../../domain/base/errors.js';
import type { ReceiverInfo } from '../../domain/session/messages.js';
import type { Enrolment } from '../../protocol/certificates/enrolment.js';
import type { ReceiverClient } from '../../protocol/client.js';

/**
 * What fails here does not keep a backup from being made: the present certificate is good for another year,
 * and the next connection tries again.
 * @returns the enrolment to use from now on; null: the one that there is
 */
export async function keepEnrolment(options: {
  readonly stateDirectory: string;
  readonly enrolment: Enrolment;
  readonly client: Pick<ReceiverClient, 'renew' | 'show'>;
  /** Null: the receiver has not been asked. */
  readonly info: ReceiverInfo | null;
  readonly say: (text: string) => void;
  readonly now?: Date;
}): Promise<Enrolment | null> {
  const { stateDirectory, enrolment, client, info, say, now = new Date() } = options;
  let renewed: Enrolment | null = null;
  try {
    if (isRenewalDue(enrolment, now)) {
      renewed = await renewIfDue({ stateDirectory, enrolment, renew: client.renew, now });
      if (renewed !== null) {
        const { url, receiverId, authority, key, certificate } = renewed;
        client.show({ url, receiverId, authority, credentials: { key, certificate } });
        say(`the certificate of this machine at ${url} was renewed`);
      }
    }
    if (info !== null && info.agent !== enrolment.agent) {
      await takeName(stateDirectory, enrolment, info);
      say(`the receiver knows this machine as ${info.agent} now, no longer as ${enrolment.agent}`);
    }
  } catch (error) {
    const isOld = isStillpointError(error, 'bad-message');
    const why = isOld ? 'the receiver is older than this program' : (error as Error).message;
    say(`the certificate of this machine can't be renewed now: ${why}`);
  }
  return renewed;
}
