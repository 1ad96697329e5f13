/** What a receiver keeps of each device, by its points' manifests alone. Pure. */
import { type Point, pointsByDevice } from '../point/point.js';
import { type GrowthRate, growthRate } from './growth.js';

export interface DeviceUsage {
  readonly agent: string;
  readonly device: string;
  readonly pointCount: number;
  /** Of its last point. */
  readonly sizeBytes: number;
  /** That its points would take as images of the device: the sum of their sizes. */
  readonly fullBytes: number;
  /**
   * That the sessions of its points added to what the device had in the store. Blocks that the store had for
   * another device are in it, too.
   */
  readonly addedBytes: number;
  readonly rate: GrowthRate | null;
}

/** By agent, then device. */
export function usageByDevice(points: readonly Point[], nowMs: number): DeviceUsage[] {
  return [...pointsByDevice(points).values()]
    .map((ofDevice) => {
      const last = ofDevice.reduce((a, b) => (b.sequence > a.sequence ? b : a));
      return {
        ...{ agent: last.agent, device: last.device, pointCount: ofDevice.length },
        sizeBytes: last.geometry.sizeBytes,
        fullBytes: ofDevice.reduce((sum, { geometry }) => sum + geometry.sizeBytes, 0),
        addedBytes: ofDevice.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
        rate: growthRate(ofDevice, nowMs),
      };
    })
    .sort((a, b) => compare(a.agent, b.agent) || compare(a.device, b.device));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
