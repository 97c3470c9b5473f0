import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRawAsset, isSea } from 'node:sea';
import { HostError } from '../error.ts';

interface Addon {
  readonly name: string;
  /** What is required from sources. */
  readonly module: string;
  /** Of the single executable. */
  readonly asset: string;
}

const koffi: Addon = { name: 'koffi', module: 'koffi', asset: 'koffi.node' };
const nodePty: Addon = {
  name: 'node-pty',
  module: `node-pty/prebuilds/linux-${process.arch}/pty.node`,
  asset: 'pty.node',
};

const loaded = new Map<Addon, unknown>();

/** The exports of koffi's native part, as `load`. Throws HostError. */
export function loadKoffi(): unknown {
  return load(koffi);
}

/** The exports of node-pty's native part, as `load`. Throws HostError. */
export function loadNodePty(): unknown {
  return load(nodePty);
}

/**
 * From sources it is loaded out of node_modules, inside a single executable out of its asset, on the first call. Throws
 * HostError.
 */
function load(addon: Addon): unknown {
  const exports = loaded.get(addon) ?? (isSea() ? loadAsset(addon) : loadInstalled(addon));
  loaded.set(addon, exports);
  return exports;
}

function loadInstalled({ name, module }: Addon): unknown {
  // In a CommonJS bundle import.meta.url is empty, and __filename is there instead.
  const require = createRequire(import.meta.url ?? __filename);
  try {
    return require(module);
  } catch (error) {
    throw new HostError(`cannot load the native part of ${name}`, { cause: error });
  }
}

function loadAsset({ name, asset }: Addon): unknown {
  return loadBytes(name, new Uint8Array(getRawAsset(asset)), [
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
