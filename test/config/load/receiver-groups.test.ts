/** `[[group]]` of receiver.toml, and the groups of a `[[schedule]]`. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { faultText } from '../../../src/config/load/faults.js';
import { checkReceiverConfig, type ReceiverConfig } from '../../../src/config/receiver-config.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

async function checked(
  t: ExecutionContext,
  files: Readonly<Record<string, string>>,
): Promise<{ readonly settings: ReceiverConfig['settings']; readonly faults: readonly string[] }> {
  const directory = await tempDir(t);
  await mkdir(join(directory, 'receiver.d'));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  const { settings, faults } = await checkReceiverConfig(directory);
  return { settings, faults: faults.map((fault) => faultText(fault).replaceAll(`${directory}/`, '')) };
}

test('groups have members of several agents; a schedule names some', async (t) => {
  const { settings, faults } = await checked(t, {
    'receiver.toml': '[[group]]\nname = "db"\nmembers = ["a/data", "b/log"]\n',
    'receiver.d/more.toml':
      '[[group]]\nname = "app"\nmembers = ["c/files"]\nmissing = "leave-out"\n[[schedule]]\nat = "daily"\ngroups = ["db", "of-a-command"]\n',
  });
  t.deepEqual(faults, []);
  t.deepEqual(settings.group, [
    {
      ...{ name: 'db', missing: 'fail' },
      members: [
        { agent: 'a', device: 'data' },
        { agent: 'b', device: 'log' },
      ],
    },
    { name: 'app', missing: 'leave-out', members: [{ agent: 'c', device: 'files' }] },
  ]);
  t.like(settings.schedule, [{ agents: null, groups: ['db', 'of-a-command'] }]);
});

test('what is wrong with groups is told with file, line and key', async (t) => {
  const many = Array.from({ length: 33 }, (_, at) => `"a/d${at}"`).join(', ');
  const { faults } = await checked(t, {
    'receiver.toml': `[[group]]
name = "db"
members = ["data"]
[[group]]
name = "x"
members = ["a/x", "b/y"]
[[group]]
name = "y"
members = ["a/x", "b/x", "a/x"]
missing = "never"
[[group]]
name = "many"
members = [${many}]
[[group]]
name = "../up"
members = []
[[group]]
members = ["a/b/c"]
[[schedule]]
at = "daily"
groups = []
`,
    'receiver.d/more.toml': '[[group]]\nname = "x"\nmembers = ["a/z"]\n',
  });
  const has = (fault: RegExp) =>
    t.true(
      faults.some((text) => fault.test(text)),
      `${fault}\n${faults.join('\n')}`,
    );
  has(/^receiver\.toml:3: group\.members: .*it does not say of which agent it is\)\. Write AGENT\/data\.$/);
  has(
    /^receiver\.toml:6: group\.members: a\/x has the name of the group\. Choose another name for the group\.$/,
  );
  has(/^receiver\.toml:9: group\.members: a\/x is named twice\. Omit one of them\.$/);
  has(/^receiver\.toml:10: group\.missing: it is "never", and has to be "fail" or "leave-out"\.$/);
  has(/^receiver\.toml:13: group\.members: .*has to be a list of 1 to 32 AGENT\/DEVICE\.$/);
  has(/^receiver\.toml:15: group\.name: it is "\.\.\/up"/);
  has(/^receiver\.toml:16: group\.members: it is \[\], and has to be a list of 1 to 32/);
  has(/^receiver\.toml:17: group\.name: it is missing\./);
  has(/^receiver\.toml:18: group\.members: .*b\/c/);
  has(/^receiver\.toml:21: schedule\.groups: it is \[\]/);
  has(/^receiver\.d\/more\.toml:1: group\.name: x is the name of the group in receiver\.toml:4, too\.$/);
  t.is(faults.length, 11, faults.join('\n'));
});
