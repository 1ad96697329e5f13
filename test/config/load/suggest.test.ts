/** Which key somebody meant who wrote another. */
import test from 'ava';
import { suggestion } from '../../../src/config/load/suggest.js';

test('the name that was meant', (t) => {
  const names = ['schedule', 'store', 'limit-rate', 'path'];
  t.is(suggestion('shedule', names), 'schedule');
  t.is(suggestion('LIMIT_RATE', names), 'limit-rate');
  t.is(suggestion('sotre', names), 'store');
  t.is(suggestion('pth', names), 'path');
  t.is(suggestion('colour', names), null);
});
