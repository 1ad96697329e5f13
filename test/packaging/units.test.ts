/** What the services are allowed, where more or less than that has been wrong before. */
import { readFile } from 'node:fs/promises';
import test from 'ava';

const unit = (name: string) => readFile(`packaging/systemd/stillpoint-${name}.service`, 'utf8');

test('the receiver can read the id of the boot', async (t) => {
  // ProcSubset=pid hides all of /proc/sys.
  t.notRegex(await unit('receiver'), /^ProcSubset=pid/m);
});
