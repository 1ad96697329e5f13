/** What the parts of an open store share: made once, when it is opened (open.ts), and handed down. */
import type { Digester } from '../../native/index.js';
import type { Disk } from '../disk/disk.js';
import type { StoreIndex } from '../index/store-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { PointCatalog } from '../points/catalog.js';
import type { Decisions } from '../points/decisions.js';
import type { PointReader } from '../points/reader.js';
import type { RecordReader } from '../records/record-reader.js';
import type { PackPins } from './pack-pins.js';
import type { PartialSets } from './partial-sets.js';

export interface StagingContext {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly objects: ObjectStore;
  readonly index: StoreIndex;
  /** Proves what comes and what is read. */
  readonly digester: Digester;
  readonly log: (message: string) => void;
  readonly now: () => Date;
  /** 32 hex digits. */
  readonly randomId: () => string;
  /**
   * Before a sealed text is written: store.json is of the present version when it resolves, so that no
   * program of a former one takes the text for damage.
   */
  readonly upgrade: () => Promise<void>;
  /** What sessions rely on while a collection runs. */
  readonly pins: PackPins;
  /** A pack is ended when it has as many bytes. */
  readonly packBytesTarget: number;
}

export interface StoreContext extends StagingContext {
  readonly catalog: PointCatalog;
  readonly decisions: Decisions;
  readonly records: RecordReader;
  readonly reader: PointReader;
  readonly partials: PartialSets;
  /**
   * Of a commit at this moment. A clock that is behind would make the point older than it is, and the minimum
   * age would not keep it: it is not before the latest time that was believed.
   */
  readonly commitTime: () => Date;
}
