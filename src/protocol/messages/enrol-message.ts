/**
 * How a machine that is not an agent yet asks to become one. It is not a message of a port: its sender does
 * not have a name yet.
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
