import { FakeDisk, fakeProvider } from '../../helpers/fakes/provider.js';
import { BLOCK, checkProvider } from './provider.js';

checkProvider(
  'fake',
  async () => {
    const disk = new FakeDisk('/fake');
    let byte = 0;
    const request = { path: '/fake', stateDirectory: null, fuzzy: false };
    return {
      provider: fakeProvider('fake', { disk }),
      request,
      read: (block) => disk.read(block * BLOCK, BLOCK),
      write: (block) => disk.write(block, ++byte),
      unable: async () => ({ ...request, path: '/other' }),
    };
  },
  { hasPasses: true },
);
