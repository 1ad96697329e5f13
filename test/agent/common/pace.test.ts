import test from 'ava';
import { Pace } from '../../../src/agent/common/pace.js';
import { BATCH_WINDOW } from '../../../src/domain/base/limits.js';
import { LinkMeter } from '../../../src/domain/session/link-meter.js';

test('no more batches are on their way than a receiver takes, whatever the link', (t) => {
  t.is(new Pace(null, 'auto').inFlightMax, BATCH_WINDOW);
  for (const speed of [4000, 7000, 60_000, 200_000, 1e6, 1e7, 1e9]) {
    const pace = new Pace(new LinkMeter({ now: () => 0, limit: () => speed }), 'auto');
    t.true(pace.inFlightMax <= BATCH_WINDOW, `${speed} bytes a second: ${pace.inFlightMax}`);
  }
  const slow = new Pace(new LinkMeter({ now: () => 0, limit: () => 7000 }), 'auto');
  t.is(slow.inFlightMax, 3, 'one more than the window of a slow link');
});
