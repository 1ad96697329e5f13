/** The suite of all journals, on each that there is. */
import { testJournals } from '../../conformance/store/journals.js';
import { MemoryJournals } from '../../helpers/journals/memory-journals.js';
import { diskJournals } from '../../helpers/journals/store-journals.js';

testJournals('journals of a store, and their reader', diskJournals);
testJournals('journals in memory', async () => {
  const journals = new MemoryJournals();
  return { journals, reader: journals, reopen: async () => undefined };
});
