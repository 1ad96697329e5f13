/**
 * What a message takes on the wire: the bytes of the bodies of its request and of its answer, whatever
 * transport carries them. Headers, TLS and packets are not counted. All figures of bytes on the wire (a
 * point's statistics, progress, the speed of the link) come from here, so that they can be compared with each
 * other, and are the same without a wire.
 */
import type { AnswerContent } from './answer-forms.js';
import type { Call } from './message.js';
import { type RequestForm, requestBody } from './request-forms.js';

export function requestBytes<Args extends unknown[]>(
  { request }: { readonly request: RequestForm<Args> },
  args: Args,
): number {
  return requestBody(request.encode(...args))?.length ?? 0;
}

export function answerBytes<Args extends unknown[], Answer>(
  { answer: form }: Pick<Call<Args, Answer>, 'answer'>,
  answer: Answer,
): number {
  return contentBytes(form.write(answer));
}

export function contentBytes(content: AnswerContent): number {
  if ('bytes' in content) return content.bytes.length;
  if ('json' in content) return Buffer.byteLength(JSON.stringify(content.json));
  return content.lines.reduce<number>((sum, line) => sum + lineBytes(line), 0);
}

export function lineBytes(line: unknown): number {
  return Buffer.byteLength(JSON.stringify(line)) + 1;
}
