import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getRawAsset, isSea } from 'node:sea';
import { HostError } from '../error.ts';

/** The packages with a native part. Their single-executable asset is `<name>.node`. */
export type NativeName = 'koffi' | 'netlink';

const loaded = new Map<NativeName, unknown>();

/**
 * The exports of a package's native part. From sources it is loaded out of node_modules, inside a single executable out
 * of the asset `<name>.node`, on the first call. Throws HostError.
 */
export function loadNative(name: NativeName): unknown {
  if (!loaded.has(name)) loaded.set(name, isSea() ? loadAsset(name) : loadInstalled(name));
  return loaded.get(name);
}

function loadInstalled(name: NativeName): unknown {
  // In a CommonJS bundle import.meta.url is empty, and __filename is there instead.
  const require = createRequire(import.meta.url ?? __filename);
  try {
    if (name === 'koffi') return require('koffi');
    const manifest = require.resolve('netlink/package.json');
    const build: unknown = createRequire(manifest)('node-gyp-build');
    if (typeof build !== 'function') throw new TypeError('node-gyp-build is not a function');
    return build(dirname(manifest));
  } catch (error) {
    throw new HostError(`cannot load the native part of ${name}`, { cause: error });
  }
}

function loadAsset(name: NativeName): unknown {
  return loadBytes(name, new Uint8Array(getRawAsset(`${name}.node`)), [
    process.env.TMPDIR ?? '',
    tmpdir(),
    '/run',
    '/var/lib',
    '/dev/shm',
  ]);
}

/**
 * Loads an addon from its bytes. The dynamic linker needs a file that it may map executable, so each directory is tried
 * until one is neither missing nor read-only nor mounted noexec; the file is removed before this returns.
 */
export function loadBytes(
  name: string,
  bytes: Uint8Array,
  directories: readonly string[],
): unknown {
  const failures: unknown[] = [];
  for (const parent of new Set(directories.filter((directory) => directory.startsWith('/')))) {
    try {
      return loadFrom(parent, name, bytes);
    } catch (error) {
      failures.push(error);
    }
  }
  throw new HostError(
    `no directory to load the native part of ${name} from: ${failures.map(String).join('; ')}`,
    { cause: new AggregateError(failures) },
  );
}

function loadFrom(parent: string, name: string, bytes: Uint8Array): unknown {
  // mkdtemp makes the directory 0700 with an unpredictable name, so no other user can plant a file in it.
  const directory = mkdtempSync(join(parent, 'nomad-driver-qmp-'));
  try {
    const path = join(directory, `${name}.node`);
    writeFileSync(path, bytes, { mode: 0o700, flag: 'wx' });
    chmodSync(path, 0o500);
    const module = { exports: {} };
    process.dlopen(module, path, constants.dlopen.RTLD_LAZY);
    return module.exports;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
