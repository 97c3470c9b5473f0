import type { DiskAio, DiskCache } from '#spec';
import { blockdev, type Json, object, type Part, type Places, type QemuOption } from '../part.ts';

/** How a disk's file is read and written; the names are those of QEMU's block layer. */
export interface DiskIo {
  readonly aio: DiskAio;
  /** Past the host's page cache. */
  readonly direct: boolean;
  /** The guest's flushes are ignored. */
  readonly noFlush: boolean;
  /** false: every write is on the disk before the guest hears of its end. */
  readonly writeCache: boolean;
  /** Whether the guest's discards give space back. */
  readonly discard: boolean;
}

/** The page cache of the host, flushed when the guest asks for it. */
export const defaultDiskIo: DiskIo = {
  aio: 'threads',
  direct: false,
  noFlush: false,
  writeCache: true,
  discard: true,
};

/** QEMU's meaning of the modes of `cache=`. */
export const cacheModes = {
  none: { direct: true, noFlush: false, writeCache: true },
  writeback: { direct: false, noFlush: false, writeCache: true },
  writethrough: { direct: false, noFlush: false, writeCache: false },
  directsync: { direct: true, noFlush: false, writeCache: false },
  unsafe: { direct: false, noFlush: true, writeCache: true },
} as const satisfies Record<DiskCache, Pick<DiskIo, 'direct' | 'noFlush' | 'writeCache'>>;

/** What has a disk's bytes. */
export type DiskProtocol =
  | { readonly driver: 'file' | 'host_device' }
  | {
      readonly driver: 'nbd';
      readonly server: NbdAddress;
      readonly export: string;
      /** How long requests wait for the server to come back before they fail. */
      readonly reconnectSeconds: number;
    }
  | {
      readonly driver: 'rbd';
      readonly pool: string;
      readonly image: string;
      readonly user: string;
      readonly servers: readonly { readonly host: string; readonly port: string }[];
    };

export type NbdAddress =
  | { readonly type: 'inet'; readonly host: string; readonly port: string }
  | { readonly type: 'unix'; readonly path: string };

/** What of a disk its lowest node depends on. */
export interface ProtocolDisk {
  readonly id: string;
  /** A file when left out. */
  readonly protocol?: DiskProtocol;
  /** Whether QEMU refuses a disk that another process has open for writing, on this host or by a shared file system. */
  readonly locked?: boolean;
  readonly readOnly?: boolean;
  readonly io?: DiskIo;
}

/** Whether the disk is a file or a device of this host, which QEMU gets open. */
export function isLocal(protocol: DiskProtocol = { driver: 'file' }): boolean {
  return protocol.driver === 'file' || protocol.driver === 'host_device';
}

export function protocolNeeds(protocol: DiskProtocol): Pick<Part, 'network' | 'hostFiles'> {
  // librbd loads its plugins by name.
  if (protocol.driver === 'rbd') return { network: true, hostFiles: true };
  if (protocol.driver !== 'nbd') return {};
  return protocol.server.type === 'unix' ? { hostFiles: true } : { network: true };
}

/** What every node of a disk has in common. */
export function nodeAccess({ readOnly = false, io = defaultDiskIo }: ProtocolDisk): Json {
  return {
    discard: io.discard && !readOnly ? 'unmap' : 'ignore',
    ...(io.direct || io.noFlush ? { cache: { direct: io.direct, 'no-flush': io.noFlush } } : {}),
    ...(readOnly ? { 'read-only': true } : {}),
  };
}

/** The lowest node, `<id>-file`: what has the bytes. */
export function protocolOptions(disk: ProtocolDisk, at: Places): readonly QemuOption[] {
  const { id, protocol = { driver: 'file' }, locked = false, io = defaultDiskIo } = disk;
  const { driver } = protocol;
  const { discard, ...common } = nodeAccess(disk);
  const name = `${id}-file`;
  switch (driver) {
    case 'nbd':
      return [
        blockdev({
          driver,
          discard,
          'node-name': name,
          server: protocol.server,
          ...(protocol.export === '' ? {} : { export: protocol.export }),
          'reconnect-delay': protocol.reconnectSeconds,
          ...common,
        }),
      ];
    case 'rbd':
      return [
        object({
          'qom-type': 'secret',
          id: `${id}-key`,
          format: 'base64',
          file: `/proc/self/fd/${at.fd(`${id}-key`)}`,
        }),
        blockdev({
          driver,
          discard,
          'node-name': name,
          pool: protocol.pool,
          image: protocol.image,
          user: protocol.user,
          'auth-client-required': ['cephx'],
          'key-secret': `${id}-key`,
          server: protocol.servers,
          ...common,
        }),
      ];
    default:
      return [
        blockdev({
          driver,
          aio: io.aio,
          discard,
          'node-name': name,
          filename: at.path(`${id}-read`),
          ...(locked ? { locking: 'on' } : {}),
          ...common,
        }),
      ];
  }
}
