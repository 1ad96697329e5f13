/**
 * How a machine that is no agent yet asks to become one. It is no message of a port: who
 * sends it has no name yet.
 */
import { jsonAnswer } from './answer-forms.js';
import { call } from './message.js';
import { json, rest } from './request-forms.js';
import { type EnrolRequest, enrolAnswerSchema, enrolRequestSchema } from './schemas.js';

const BYTES_MAX = 16 * 1024;
const TIMEOUT_MS = 60_000;

export const ENROL_MESSAGE = call({
  path: '/enroll',
  request: json<[request: EnrolRequest]>(BYTES_MAX, rest('enrolment', enrolRequestSchema)),
  answer: jsonAnswer(enrolAnswerSchema),
  answerTimeoutMs: () => TIMEOUT_MS,
});
