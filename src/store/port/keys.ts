/** Whose points, journals and sessions. */
export interface DeviceKey {
  readonly agent: string;
  readonly device: string;
}

/** Without an agent: of all agents. */
export interface PointsKey {
  readonly agent?: string;
  readonly device?: string;
}
