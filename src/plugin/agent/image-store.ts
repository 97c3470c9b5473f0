import { quoted } from '#spec';
import { blockDefaults } from '../hcl/decode-fields.ts';
import type { Report } from '../hcl/problem.ts';
import type { Decoded, Fields } from '../hcl/schema.ts';
import { parseSize, sizeForm } from '../hcl/size.ts';

export const imageStoreFields = {
  image_store: {
    kind: 'block',
    doc: 'Images that had to be unpacked or converted are kept in data_dir, once for all jobs.',
    fields: {
      max_size: {
        kind: 'attr',
        type: 'string',
        default: '50GiB',
        doc: 'When the images take more than this, those are removed that were not used for longest and that no disk is based on.',
        example: '"50GiB"',
      },
    },
  },
} as const satisfies Fields;

export interface ImageStoreConfig {
  readonly imageStoreMaxBytes: number;
}

export function readImageStore(
  raw: Decoded<typeof imageStoreFields>,
  report: Report,
): ImageStoreConfig {
  const { max_size } = raw.image_store ?? blockDefaults(imageStoreFields.image_store.fields);
  const bytes = parseSize(max_size);
  if (bytes === undefined || !Number.isSafeInteger(bytes)) {
    report('image_store.max_size', `${quoted(max_size)} is not a size: ${sizeForm}`);
  }
  return { imageStoreMaxBytes: bytes ?? 0 };
}
