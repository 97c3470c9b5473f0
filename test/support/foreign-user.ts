import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Every path below a directory, as root sees it, mounts included. */
export function everythingIn(dir: string): readonly string[] {
  const names = readdirSync(dir, { recursive: true, encoding: 'utf8' });
  return [dir, ...names.map((name) => join(dir, name))];
}

/**
 * What a process of that user gets of these paths, whose names it is given: `list`, `read`, `write` or `connect`, and
 * `see` for the bare fact that there is such a name.
 */
export function reachOf(uid: number, paths: readonly string[]): readonly string[] {
  const known = paths.map((path) => ({ path, socket: lstatSync(path).isSocket() }));
  const output = execFileSync(process.execPath, ['-e', program, String(uid)], {
    input: JSON.stringify(known),
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  return JSON.parse(output);
}

// Becomes the user only when it runs: that user need not be able to reach the program.
const program = `
const { accessSync, closeSync, lstatSync, openSync, opendirSync, readFileSync } = require('node:fs');
const { connect } = require('node:net');
const uid = Number(process.argv[1]);
process.setgroups([]);
process.setgid(uid);
process.setuid(uid);
const works = (what) => { try { what(); return true; } catch { return false; } };
const connects = (path) => new Promise((resolve) => {
  const socket = connect(path);
  socket.on('connect', () => { socket.destroy(); resolve(true); });
  socket.on('error', () => resolve(false));
});
(async () => {
  const found = [];
  for (const { path, socket } of JSON.parse(readFileSync(0, 'utf8'))) {
    if (works(() => lstatSync(path))) found.push('see ' + path);
    if (socket) { if (await connects(path)) found.push('connect ' + path); continue; }
    if (works(() => opendirSync(path).closeSync())) found.push('list ' + path);
    else if (works(() => closeSync(openSync(path, 'r')))) found.push('read ' + path);
    if (works(() => accessSync(path, 2))) found.push('write ' + path);
  }
  process.stdout.write(JSON.stringify(found));
})();
`;
