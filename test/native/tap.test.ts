import { native } from '../../src/native/index.js';
import { testTapAddon } from '../conformance/tap.js';
import { fakeTapAddon } from '../helpers/fakes/tap.js';

testTapAddon('native tap', () => native);
testTapAddon('tap in memory', fakeTapAddon);
