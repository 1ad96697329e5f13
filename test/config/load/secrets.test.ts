/** Secrets: from the file itself, another file or a credential; never shown, in faults neither. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { z } from 'zod';
import { checkAgentConfig } from '../../../src/config/agent-config.js';
import { faultText } from '../../../src/config/load/faults.js';
import { suggestion } from '../../../src/config/load/suggest.js';
import { check } from '../../../src/config/load/validate.js';
import { checkReceiverConfig } from '../../../src/config/receiver-config.js';
import { type Fields, optional } from '../../../src/config/schema/kinds.js';
import { parseToml } from '../../../src/config/toml/parse.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const fields = {
  token: optional(z.string().min(4), {
    ...{
      about: 'A test.',
      allowed: 'at least 4 characters',
      example: 'x',
      otherwise: 'none',
      isSecret: true,
    },
  }),
} satisfies Fields;

test('a secret is given in one of three ways', async (t) => {
  const directory = await tempDir(t);
  await writeFile(join(directory, 'one'), 'hidden1\n');
  await writeFile(join(directory, 'short'), 'ab');
  const read = async (text: string, credentials?: string) => {
    const { settings, faults, values } = check(await parseToml(text, 'f'), fields, credentials);
    const told = faults.map(faultText).join('\n');
    t.false(/hidden|"ab"/.test(told), told);
    t.true(values.every(({ isSecret }) => isSecret));
    return faults.length === 0 ? settings.token : told.replaceAll(directory, 'DIR');
  };
  t.is(await read('token = "hidden0"'), 'hidden0');
  t.is(await read(`token-file = "${directory}/one"`), 'hidden1');
  t.is(await read('token-credential = "one"', directory), 'hidden1');
  t.is(await read(''), null);
  t.regex(String(await read('token = "ab"')), /^f:1: token: it is a secret, and has to be at least 4/);
  t.regex(String(await read(`token-file = "${directory}/short"`)), /it is a secret/);
  t.regex(String(await read(`token-file = "${directory}/none"`)), /DIR\/none can't be read \(ENOENT\)/);
  t.regex(String(await read('token-file = "relative"')), /absolute path/);
  t.regex(String(await read('token-credential = "one"')), /LoadCredential/);
  t.regex(String(await read('token-credential = "../one"', directory)), /the name of a credential/);
  t.regex(
    String(await read(`token = "hidden0"\ntoken-file = "${directory}/one"`)),
    /f:2: token: it is given twice/,
  );
  t.regex(String(await read('tokenfile = "x"')), /Did you mean token-file\?/);
});

test('the name that was meant', (t) => {
  const names = ['schedule', 'store', 'limit-rate', 'path'];
  t.is(suggestion('shedule', names), 'schedule');
  t.is(suggestion('LIMIT_RATE', names), 'limit-rate');
  t.is(suggestion('sotre', names), 'store');
  t.is(suggestion('pth', names), 'path');
  t.is(suggestion('colour', names), null);
});

test('what a webhook needs is secret, for agents and receivers', async (t) => {
  const directory = await tempDir(t);
  for (const [kind, check] of [
    ['agent', checkAgentConfig],
    ['receiver', checkReceiverConfig],
  ] as const) {
    const file = join(directory, `${kind}.toml`);
    await writeFile(file, '[notify]\nwebhook = "https://a.example.net/x"\nwebhook-token = "token"\n');
    const { values, faults } = await check(directory, {}, [file]);
    t.deepEqual(faults, []);
    const secret = values.filter(({ isSecret }) => isSecret).map(({ key }) => key);
    t.deepEqual(secret, ['notify.webhook', 'notify.webhook-token']);
  }
});
