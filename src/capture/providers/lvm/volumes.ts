/** What LVM says of a volume, its group, its pool, and the snapshots of it that are ours. */
import { type OurTags, ourTags, policyOf, type VolumePolicy } from '../../../domain/volume/snapshot-tags.js';
import { CommandError, type LvmHost, type RunOptions } from './host.js';

export interface Volume {
  readonly uuid: string;
  /** Without the brackets of a hidden one. */
  readonly name: string;
  /** `GROUP/NAME` */
  readonly path: string;
  /** Of a thick snapshot: of its store. */
  readonly sizeBytes: number;
  readonly originUuid: string;
  readonly tags: readonly string[];
  readonly roles: readonly string[];
  readonly isPool: boolean;
  readonly isActive: boolean;
  readonly isMerging: boolean;
  /** Of a thin one: its pool and its number there. */
  readonly thin: { readonly pool: string; readonly id: number } | null;
  /** Of a thin one: what of it is mapped; of a pool: what is used. */
  readonly dataPercent: number;
  readonly metadataPercent: number;
  readonly metadataName: string;
  /** `/dev/mapper/...` */
  readonly devicePath: string;
  readonly isInvalid: boolean;
}

/** A snapshot of ours. */
export interface OurSnapshot extends OurTags {
  readonly volume: Volume;
}

export interface VolumeState {
  readonly volume: Volume;
  readonly policy: VolumePolicy;
  readonly group: { readonly name: string; readonly freeBytes: number; readonly extentBytes: number };
  readonly pool: Volume | null;
  /** Of the pool. */
  readonly poolMetadataPath: string | null;
  /** Of this volume. */
  readonly ours: readonly OurSnapshot[];
}

const FIELDS = [
  'lv_uuid',
  'lv_name',
  'vg_name',
  'lv_size',
  'origin_uuid',
  'pool_lv',
  'lv_tags',
  'lv_layout',
  'lv_role',
  'lv_active',
  'lv_merging',
  'thin_id',
  'data_percent',
  'metadata_percent',
  'metadata_lv',
  'vg_free',
  'vg_extent_size',
  'lv_dm_path',
  'lv_snapshot_invalid',
] as const;

type Row = Readonly<Record<(typeof FIELDS)[number], string>>;

/** Of device mapper, as LVM makes it: the group's and the volume's, without their dashes. */
const MAPPING_UUID = /^LVM-([A-Za-z0-9]{32})([A-Za-z0-9]{32})$/;
const UUID_PARTS = [6, 4, 4, 4, 4, 4, 6];

/** @returns null: it is the mapping of no volume, or of a hidden part of one. */
export function volumeUuid(mappingUuid: string): { readonly group: string; readonly volume: string } | null {
  const match = MAPPING_UUID.exec(mappingUuid);
  if (match === null) return null;
  return { group: dashed(match[1] ?? ''), volume: dashed(match[2] ?? '') };
}

function dashed(uuid: string): string {
  let at = 0;
  return UUID_PARTS.map((length) => {
    at += length;
    return uuid.slice(at - length, at);
  }).join('-');
}

/** @throws CommandError */
export async function readVolume(
  host: LvmHost,
  uuid: { readonly group: string; readonly volume: string },
  options: RunOptions = {},
): Promise<VolumeState> {
  const args = ['-a', '--reportformat', 'json', '--units', 'b', '--nosuffix', '-o', FIELDS.join(',')];
  const text = await host.run('lvs', [...args, '-S', `vg_uuid=${uuid.group}`], options);
  const rows = rowsOf(text);
  const row = rows.find((one) => one.lv_uuid === uuid.volume);
  if (row === undefined) throw new CommandError('lvs', 'LVM does not know this volume');
  const volumes = new Map(rows.map((one) => [one.lv_uuid, volumeOf(one)]));
  const named = (name: string): Volume | null =>
    [...volumes.values()].find((one) => one.name === name) ?? null;
  const volume = volumeOf(row);
  const pool = volume.thin === null ? null : named(volume.thin.pool);
  return {
    volume,
    policy: policyOf(volume.tags),
    group: { name: row.vg_name, freeBytes: Number(row.vg_free), extentBytes: Number(row.vg_extent_size) },
    pool,
    poolMetadataPath: pool === null ? null : (named(pool.metadataName)?.devicePath ?? null),
    ours: [...volumes.values()].flatMap((one) => {
      const tags = one.originUuid === volume.uuid ? ourTags(one.name, one.tags) : null;
      return tags === null ? [] : [{ ...tags, volume: one }];
    }),
  };
}

/** One for each segment of a volume. */
function rowsOf(text: string): Row[] {
  let lv: unknown;
  try {
    lv = (JSON.parse(text) as { report?: { lv?: unknown }[] }).report?.[0]?.lv;
  } catch (cause) {
    throw new CommandError('lvs', `lvs printed no JSON: ${(cause as Error).message}`);
  }
  const isRow = (one: unknown): one is Row =>
    typeof one === 'object' &&
    one !== null &&
    FIELDS.every((field) => typeof (one as Record<string, unknown>)[field] === 'string');
  if (!Array.isArray(lv) || !lv.every(isRow)) throw new CommandError('lvs', 'lvs printed another report');
  return lv;
}

function volumeOf(row: Row): Volume {
  const name = bare(row.lv_name);
  const layout = row.lv_layout.split(',');
  const isPool = layout.includes('pool');
  const id = Number(row.thin_id);
  return {
    uuid: row.lv_uuid,
    name,
    path: `${row.vg_name}/${name}`,
    sizeBytes: Number(row.lv_size),
    originUuid: row.origin_uuid,
    tags: row.lv_tags === '' ? [] : row.lv_tags.split(','),
    roles: row.lv_role.split(','),
    isPool,
    isActive: row.lv_active === 'active',
    isMerging: row.lv_merging !== '',
    thin: layout.includes('thin') && !isPool && row.thin_id !== '' ? { pool: bare(row.pool_lv), id } : null,
    dataPercent: Number(row.data_percent),
    metadataPercent: Number(row.metadata_percent),
    metadataName: bare(row.metadata_lv),
    devicePath: row.lv_dm_path,
    isInvalid: row.lv_snapshot_invalid !== '' && row.lv_snapshot_invalid !== 'unknown',
  };
}

const bare = (name: string): string => name.replace(/^\[(.*)\]$/, '$1');

export interface Obstacle {
  /** A clause. */
  readonly reason: string;
  readonly remedy: string;
}

/** Why no snapshot of it can be taken; null: nothing is known that would forbid it. */
export function obstacleOf({ volume, pool }: VolumeState): Obstacle | null {
  const isOurs = ourTags(volume.name, volume.tags) !== null;
  if (volume.roles.includes('private') || volume.isPool)
    return {
      reason: 'it is a part of another volume, or a pool',
      remedy: 'Back up the volumes that are made of it.',
    };
  if (volume.roles.includes('thicksnapshot') || isOurs)
    return {
      reason: 'it is a snapshot itself, and can not have another one',
      remedy: 'Back up its origin.',
    };
  if (volume.isMerging)
    return {
      reason: 'a snapshot is being merged into it',
      remedy: 'Wait until "lvs" shows that this has ended.',
    };
  if (!volume.isActive)
    return { reason: 'it is not active on this host', remedy: `Activate it: lvchange -ay ${volume.path}` };
  if (volume.thin !== null && pool === null)
    return {
      reason: `LVM does not show its pool ${volume.thin.pool}`,
      remedy: 'See what "lvs -a" says of it.',
    };
  return null;
}
