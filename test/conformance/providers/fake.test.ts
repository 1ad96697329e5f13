import { FakeDisk, type FakeDiskOptions, fakeProvider } from '../../helpers/fakes/provider.js';
import { BLOCK, checkProvider } from './provider.js';

function check(name: string, options: FakeDiskOptions): void {
  checkProvider(
    name,
    async () => {
      const disk = new FakeDisk('/fake', options);
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
    options.isLate,
  );
}

check('fake', {});
check('late fake', { isLate: true });
