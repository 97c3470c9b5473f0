import type { Logger } from '#host';
import type { ImageStore } from '#image';
import type { Net } from '#net';
import type { StoragePools } from '#spec';

export interface UidRange {
  readonly min: number;
  readonly max: number;
}

/** What every part of this room works with: the plugin's settings and the objects created from them once. */
export interface VmHost {
  readonly dataDir: string;
  /** Short, on a tmpfs: sockets live below it. */
  readonly runDir: string;
  readonly imagePaths: readonly string[];
  readonly uidRange: UidRange;
  /** Maximum virtual size of an image, in bytes. */
  readonly maxImageBytes: number;
  readonly pools: StoragePools;
  /** What was converted or unpacked for any VM. */
  readonly images: ImageStore;
  readonly networks: Net;
  readonly log: Logger;
}
