/**
 * How a machine that is not an agent yet asks to become one, and how an agent gets its next certificate. They
 * are not messages of a port: only a receiver over a network has certificates.
 */

import {
  type EnrolRequest,
  enrolAnswerSchema,
  enrolRequestSchema,
  type RenewRequest,
  renewAnswerSchema,
  renewRequestSchema,
} from '../schemas/messages.js';
import { jsonAnswer } from './answer-forms.js';
import { call } from './message.js';
import { json, rest } from './request-forms.js';

const BYTES_MAX = 16 * 1024;
const TIMEOUT_MS = 60_000;

export const ENROL_MESSAGE = call({
  path: '/enroll',
  request: json<[request: EnrolRequest]>(BYTES_MAX, rest('enrolment', enrolRequestSchema)),
  answer: jsonAnswer(enrolAnswerSchema),
  answerTimeoutMs: () => TIMEOUT_MS,
});

/** Over the connection of an enrolled agent. The same key again gets the same certificate. */
export const RENEW_MESSAGE = call({
  path: '/agent/renew',
  request: json<[request: RenewRequest]>(BYTES_MAX, rest('renewal', renewRequestSchema)),
  answer: jsonAnswer(renewAnswerSchema),
  answerTimeoutMs: () => TIMEOUT_MS,
});
