/** Names of files and objects in a store (docs/format.md section 5), made and read in one place. */
import type { DeviceKey } from '../port/store.js';

export const STORE_FILE = 'store.json';
export const LOCK_FILE = 'lock';
export const INDEX_DIR = 'index';
export const CAPTURE_DIR = 'capture';
export const PACKS_PREFIX = 'packs';
export const POINTS_PREFIX = 'points';
/** Every object of `points/` once more, under the same name. */
export const POINTS_COPY_PREFIX = 'points-copy';
/** What is decided about several points at once, until it is done. */
export const DECISIONS_PREFIX = 'decisions';
export const PARTIAL_DIR = 'partial';
/** Of taps: `journals/AGENT/DEVICE/JOURNAL`, a folder each. */
export const JOURNALS_PREFIX = 'journals';
/** When packs were read back, and what was found damaged. */
export const SCRUB_FILE = 'scrub.json';
/** Packs that a collection writes. */
export const COLLECT_DIR = 'collect';
/** Whose shared lock holds back the removal of packs. */
export const READERS_FILE = 'readers';
/** The same as STORE_FILE, for when that is lost. */
export const STORE_COPY = 'store-copy.json';

/** In a capture's directory. */
export const CAPTURE_DESCRIPTION = 'description';
export const CAPTURE_LOG = 'log';
export const CAPTURE_OVERLAY = 'overlay';
/** In a journal's folder. */
export const JOURNAL_FILE = 'journal';
export const JOURNAL_END = 'end';
export const JOURNAL_AUDITS = 'audits';
const PACK_SUFFIX = '.pack';
const DELETED_SUFFIX = '.deleted';

const PACK_FOLDER = /^packs\/[0-9a-f]{2}$/;
const PACK_KEY = /^packs\/([0-9a-f]{2})\/(\1[0-9a-f]{30})$/;
const POINT_KEY = /^points(?:-copy)?\/([^/]+)\/([^/]+)\/(\d{10})(\.deleted)?$/;
const DECISION_KEY = /^decisions\/([0-9a-f]{32})$/;
const RECORDS_NAME = /^(\d{20})\.records$/;
const STAGING_PACK = /^([0-9a-f]{32})\.pack$/;

export function packKey(packId: string): string {
  return `${PACKS_PREFIX}/${packId.slice(0, 2)}/${packId}`;
}

/** Pack id of an object key; null for anything else. */
export function packIdOf(key: string): string | null {
  return PACK_KEY.exec(key)?.[2] ?? null;
}

/**
 * True for folders that objects may be in. What else lies about (a NAS has folders of its own, a file system
 * its lost+found) is not entered.
 */
export function isObjectFolder(folder: string): boolean {
  if (folder.startsWith(`${PACKS_PREFIX}/`)) return PACK_FOLDER.test(folder);
  const isOfPoints = [POINTS_PREFIX, POINTS_COPY_PREFIX].includes(folder.split('/')[0] ?? '');
  return !isOfPoints || folder.split('/').length <= 3;
}

/** True for names that an object of the store may have: a pack's, a point's, a mark's, a decision's. */
export function isObjectName(key: string): boolean {
  return packIdOf(key) !== null || pointPlaceOf(key) !== null || decisionIdOf(key) !== null;
}

export function decisionKey(id: string): string {
  return `${DECISIONS_PREFIX}/${id}`;
}

/** The id of a decision; null for anything else. */
export function decisionIdOf(key: string): string | null {
  return DECISION_KEY.exec(key)?.[1] ?? null;
}

export function stagingPackName(packId: string): string {
  return `${packId}${PACK_SUFFIX}`;
}

export function stagingPackIdOf(name: string): string | null {
  return STAGING_PACK.exec(name)?.[1] ?? null;
}

/** Records of a journal, by the ordinal of the first. */
export function recordsName(firstOrdinal: number): string {
  return `${String(firstOrdinal).padStart(20, '0')}.records`;
}

/** The ordinal of its first record; null: it is no such file. */
export function recordsFirstOf(name: string): number | null {
  const digits = RECORDS_NAME.exec(name)?.[1];
  const ordinal = digits === undefined ? 0 : Number(digits);
  return Number.isSafeInteger(ordinal) && ordinal > 0 ? ordinal : null;
}

export function pointKey(key: DeviceKey, sequence: number): string {
  return `${POINTS_PREFIX}/${key.agent}/${key.device}/${String(sequence).padStart(10, '0')}`;
}

/** Where the copy of an object of `points/` is. */
export function copyKeyOf(key: string): string {
  return `${POINTS_COPY_PREFIX}${key.slice(POINTS_PREFIX.length)}`;
}

/** The mark that a sequence was used and its point is gone. */
export function deletedKeyOf(key: string): string {
  return `${key}${DELETED_SUFFIX}`;
}

export interface PointPlace extends DeviceKey {
  readonly sequence: number;
  /** A mark that the sequence was used, not a manifest. */
  readonly deleted: boolean;
}

/** Of a manifest, a mark, or a copy of one; null for anything else. */
export function pointPlaceOf(key: string): PointPlace | null {
  const match = POINT_KEY.exec(key);
  if (match === null) return null;
  const [, agent = '', device = '', sequence = '', mark] = match;
  return { agent, device, sequence: Number(sequence), deleted: mark !== undefined };
}
