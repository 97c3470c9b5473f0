import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { build as bundle } from 'esbuild';

const root = resolve(import.meta.dirname, '..');
const dist = join(root, 'dist');
const mainBundle = 'nomad-driver-qmp.cjs';
/** Programs of worker threads, by the names of the assets that src/host/worker.ts loads them from. */
const workers = {
  'digest-worker.cjs': 'src/image/store/digest-worker.ts',
  'import-worker.cjs': 'src/image/import/import-worker.ts',
  'seed-worker.cjs': 'src/vm/devices/seed-worker.ts',
  'user-data-worker.cjs': 'src/vm/devices/user-data-worker.ts',
};
// From Node's manual: the resource's name, and the marker in the node binary that shows whether it has one.
const resourceName = 'NODE_SEA_BLOB';
const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/**
 * Makes dist/nomad-driver-qmp: one executable with Node, the bundled sources and two addons in it. Does nothing
 * when sources, lock file and this script are those of the last build.
 */
export async function build(arch: string = process.arch): Promise<string> {
  const output = join(
    dist,
    arch === process.arch ? 'nomad-driver-qmp' : `nomad-driver-qmp-${arch}`,
  );
  const stamp = `${output}.inputs`;
  const inputs = hashInputs(arch);
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs) {
    return output;
  }
  mkdirSync(dist, { recursive: true });
  const work = mkdtempSync(join(dist, '.build-'));
  try {
    const script = await bundleSources(work);
    const blob = makeBlob(work, script, arch);
    const draft = makeExecutable(work, blob, arch);
    // Renamed, not written over: Nomad may be running the old one.
    renameSync(draft, output);
    writeFileSync(stamp, inputs);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return output;
}

function hashInputs(arch: string): string {
  const files = globSync('{bin,src}/**', { cwd: root })
    .concat('scripts/build.ts', 'package.json', 'package-lock.json')
    .filter((path) => statSync(join(root, path)).isFile());
  const hash = createHash('sha256').update(arch);
  for (const path of files.toSorted()) {
    hash
      .update(`${path}\0`)
      .update(readFileSync(join(root, path)))
      .update('\0');
  }
  return hash.digest('hex');
}

/** The plugin, and the programs of its worker threads. */
async function bundleSources(work: string): Promise<string> {
  await Promise.all([
    bundleEntry('bin/nomad-driver-qmp.ts', join(work, mainBundle)),
    ...Object.entries(workers).map(([asset, entry]) => bundleEntry(entry, join(work, asset))),
  ]);
  return join(work, mainBundle);
}

async function bundleEntry(entry: string, outfile: string): Promise<void> {
  await bundle({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node24',
    // The code cache of a single executable is for CommonJS only.
    format: 'cjs',
    minifySyntax: true,
    minifyWhitespace: true,
    keepNames: true,
    legalComments: 'eof',
    logLevel: 'warning',
    // src/host/native/native.ts knows that import.meta.url is empty in here.
    logOverride: { 'empty-import-meta': 'silent' },
  });
}

/**
 * Garbage of calls is short-lived: a larger young generation only holds more memory, and waking up other threads to collect a
 * MiB takes more CPU time than the collection. The last one is for shrinkAtRest.
 */
const v8Options = ['--max-semi-space-size=1', '--no-parallel-scavenge', '--expose-gc'];

/** The blob that goes into the executable: the script with its compiled code, and the addons. */
function makeBlob(work: string, script: string, arch: string): string {
  const output = join(work, 'sea.blob');
  const config = join(work, 'sea.json');
  writeFileSync(
    config,
    JSON.stringify({
      // Relative, since both names end up in the blob and would make every build differ.
      main: basename(script),
      output: basename(output),
      disableExperimentalSEAWarning: true,
      // Compiled code fits only the machine type it was made on.
      useCodeCache: arch === process.arch,
      useSnapshot: false,
      execArgv: v8Options,
      execArgvExtension: 'none',
      assets: {
        'koffi.node': koffiAddon(arch),
        'pty.node': ptyAddon(arch),
        ...Object.fromEntries(Object.keys(workers).map((asset) => [asset, join(work, asset)])),
      },
    }),
  );
  // V8 discards compiled code that was created with other options.
  execFileSync(nodeOf(process.arch), [...v8Options, '--experimental-sea-config', config], {
    cwd: work,
    stdio: 'pipe',
  });
  return output;
}

/** Koffi has one optional package for each platform. */
function koffiAddon(arch: string): string {
  const koffi = dirname(createRequire(import.meta.url).resolve('koffi'));
  return join(koffi, `../@koromix/koffi-linux-${arch}/linux_${arch}/koffi.node`);
}

/** node-pty has those of all platforms in its one package. */
function ptyAddon(arch: string): string {
  return join(root, `node_modules/node-pty/prebuilds/linux-${arch}/pty.node`);
}

function makeExecutable(work: string, blob: string, arch: string): string {
  const draft = join(work, 'nomad-driver-qmp');
  copyFileSync(nodeOf(arch), draft);
  chmodSync(draft, 0o755);
  // Before the blob is added: strip would remove it. Half of what it removes are debug symbols.
  strip(draft);
  // In a separate process: it prints a dozen harmless warnings about section names.
  const postject = join(root, 'node_modules/postject/dist/cli.js');
  const args = [postject, draft, resourceName, blob, '--sentinel-fuse', fuse];
  execFileSync(nodeOf(process.arch), args, { stdio: 'pipe' });
  return draft;
}

function strip(path: string): void {
  try {
    execFileSync('strip', ['--strip-unneeded', path], { stdio: 'pipe' });
  } catch (error) {
    console.log(`not stripped, so larger than necessary: ${String(error).split('\n')[0]}`);
  }
}

function nodeOf(arch: string): string {
  const path = join(root, `node_modules/node-linux-${arch}/bin/node`);
  if (existsSync(path)) return path;
  if (arch === process.arch) return process.execPath;
  throw new Error(`there is no Node for ${arch}: npm install --no-save node-linux-${arch}`);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { arch: { type: 'string', default: process.arch } } });
  const path = await build(values.arch);
  const mib = (statSync(path).size / 2 ** 20).toFixed(1);
  console.log(`${path} (${mib} MiB)`);
}
