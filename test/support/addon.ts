import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** The bytes of koffi's addon, as a single executable carries them. */
export function addonBytes(): Uint8Array {
  const koffi = dirname(createRequire(import.meta.url).resolve('koffi'));
  const platform = `linux-${process.arch}`;
  const file = `@koromix/koffi-${platform}/${platform.replace('-', '_')}/koffi.node`;
  return readFileSync(join(koffi, '..', file));
}
