import type { OpenImage } from '#image';
import { type DiskDescription, type DiskIo, disk, throttleNode } from '#qemu';
import type { DiskCache, DiskFormat, DiskSpec } from '#spec';
import type { Prepared } from '../devices/device.ts';
import type { DiskSeat } from './disk.ts';

/** A disk whose content is there and open. */
export interface ReadyDisk {
  readonly spec: DiskSpec;
  readonly seat: DiskSeat;
  readonly image: OpenImage | undefined;
  readonly plan: {
    readonly format: DiskFormat;
    readonly base: DiskFormat | undefined;
    readonly virtualBytes: number;
    readonly growBeforeBoot: boolean;
  };
}

export interface DiskFacts {
  readonly io: DiskIo & { readonly cache: DiskCache };
  /** Maximum length of the disk's file. */
  readonly maxFileBytes: number;
  readonly readOnly?: boolean;
  readonly protocol?: DiskDescription['protocol'];
  readonly locked?: boolean;
  readonly awaited?: Prepared['awaited'];
}

/** The disk at `path`, for QEMU, the VM's record and its last requests. */
export function describe(
  { spec, seat, image, plan }: ReadyDisk,
  path: string,
  { io, maxFileBytes, readOnly = spec.readOnly, protocol, locked, awaited }: DiskFacts,
): Prepared {
  const { id, device, slot, bootIndex } = seat;
  const { format, base, virtualBytes, growBeforeBoot } = plan;
  return {
    part: disk({
      id,
      device,
      slot,
      ...(protocol === undefined ? {} : { protocol }),
      ...(locked === undefined ? {} : { locked }),
      format,
      ...(base === undefined ? {} : { base: { id: seat.base, format: base } }),
      ...(readOnly ? { readOnly } : {}),
      io,
      ...(spec.throttle === undefined ? {} : { throttle: spec.throttle }),
      ...(bootIndex === undefined ? {} : { bootIndex }),
      serial: serialOf(spec),
    }),
    ...(awaited && { awaited }),
    record: {
      kind: 'disk',
      id,
      name: spec.name,
      path,
      format,
      image: image?.path ?? '',
      maxFileBytes,
      cache: io.cache,
      aio: io.aio,
      ...(protocol?.driver === 'nbd'
        ? { nbd: { server: protocol.server, discard: io.discard } }
        : {}),
      ...(virtualBytes > 0 ? { virtualBytes } : {}),
      ...(maxFileBytes > 0 && !spec.sparse && !readOnly ? { allocated: true } : {}),
    },
    ...(growBeforeBoot
      ? {
          beforeGuest: async (qmp, booting) => {
            // The guest sees the size of the topmost node, which keeps it where one below it grows.
            const node = spec.throttle === undefined ? id : throttleNode(id);
            await qmp.execute('block_resize', { 'node-name': node, size: virtualBytes }, booting);
          },
        }
      : {}),
  };
}

function serialOf({ serial, primary, name }: DiskSpec): string {
  return serial ?? (primary ? 'primary' : name);
}
