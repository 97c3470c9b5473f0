import { type Checksum, type DiskSource, imageFormats, quoted } from '#spec';
import type { Report } from '../../hcl/problem.ts';
import type { Decoded, Fields } from '../../hcl/schema.ts';

export const sourceFields = {
  image: {
    kind: 'attr',
    type: 'string',
    doc: 'A disk image, by the rules of the key `image` above.',
    example: '"local/debian-12.qcow2"',
  },
  format: {
    kind: 'attr',
    type: 'string',
    oneOf: imageFormats,
    doc: 'Format of the image. Default: recognised by its content.',
    example: '"qcow2"',
  },
  checksum: {
    kind: 'attr',
    type: 'string',
    doc: 'Of the file that `image` names, as `sha256:` or `sha512:` and hexadecimal digits.',
    example: '"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"',
  },
  member: {
    kind: 'attr',
    type: 'string',
    doc: "Name of the disk's file when the image is an archive. Default: the only one that is a disk.",
    example: '"disk.raw"',
  },
  volume: {
    kind: 'attr',
    type: 'string',
    doc: "A volume of the disk's storage pool; in a Ceph pool also a snapshot of one, `volume@snapshot`.",
    example: '"debian-12.qcow2"',
  },
  nbd: {
    kind: 'attr',
    type: 'string',
    doc: 'An export of an NBD server, which is the disk itself: `nbd://host:port/export`, or `nbd+unix:///export?socket=/path` on this host.',
    example: '"nbd://192.0.2.1:10809/data"',
  },
} as const satisfies Fields;

type RawSource = Decoded<typeof sourceFields>;

/** What the disk is created from; undefined when it is not, or when the block makes no sense. */
export function readSource(source: RawSource | undefined, report: Report): DiskSource | undefined {
  if (source === undefined) return undefined;
  const { image, volume, nbd } = source;
  if (image && volume) {
    report('source', 'source.volume and source.image are mutually exclusive');
  } else if (!image && !volume && !nbd) {
    report('source', 'disk source must define an image or volume');
  }
  if (image) return { kind: 'image', image, ...readImage(source, report) };
  for (const key of ['format', 'checksum', 'member'] as const) {
    if (source[key]) report(`source.${key}`, 'can only be set with source.image');
  }
  if (!volume) return undefined;
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}(@[A-Za-z0-9_][A-Za-z0-9_.-]{0,254})?$/.test(volume)) {
    report('source.volume', `${quoted(volume)} is not the name of a volume`);
  }
  return { kind: 'volume', volume };
}

function readImage({ format, checksum, member }: RawSource, report: Report) {
  return {
    ...(format && { format }),
    ...(checksum && { checksum: readChecksum(checksum, report) }),
    ...(member && { member }),
  };
}

function readChecksum(text: string, report: Report): Checksum {
  const [, algorithm = '', hex = ''] = /^(sha256|sha512):([0-9a-f]+)$/i.exec(text) ?? [];
  const name = algorithm.toLowerCase() === 'sha512' ? 'sha512' : 'sha256';
  const digits = name === 'sha512' ? 128 : 64;
  if (hex.length !== digits) {
    report(
      'source.checksum',
      `${quoted(text)} is not "sha256:" with 64 or "sha512:" with 128 hexadecimal digits`,
    );
  }
  return { algorithm: name, hex: hex.toLowerCase() };
}
