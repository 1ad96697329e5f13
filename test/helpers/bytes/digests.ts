/** The digester of today's points, for tests that make or check digests by themselves. */
import { native } from '../../../src/native/index.js';

export const PLAIN = native.plainDigester();
