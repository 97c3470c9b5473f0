// Entry of every npm script. It is started by whatever node there is (20 or newer), brings what the project needs, then runs
// the asked program under Node 24 with the project's own tools first on PATH:
//
//   node scripts/run.mjs [--host demo|test] PROGRAM [ARGUMENT]...
//
// --host also installs the Debian packages that the demo or the tests use (root only; otherwise it says which are missing).
// Plain JavaScript without dependencies, since nothing is installed yet when it starts.
import { spawn } from 'node:child_process';
import { delimiter, join, resolve } from 'node:path';
import { bringDependencies } from './setup/dependencies.mjs';
import { bringPackages } from './setup/packages.mjs';

const root = resolve(import.meta.dirname, '..');

function usage() {
  console.error('usage: node scripts/run.mjs [--host demo|test] PROGRAM [ARGUMENT]...');
  process.exit(2);
}

const [, , ...words] = process.argv;
const purpose = words[0] === '--host' ? words.splice(0, 2)[1] : undefined;
const [program, ...args] = words;
if (program === undefined) usage();

const node = bringDependencies(root);
if (purpose !== undefined) bringPackages(purpose);

const isScript = /\.(ts|js|mjs|cjs)$/.test(program) || program.startsWith('-');
const tools = join(root, 'node_modules/.bin');
const command = program.includes('/') ? program : join(tools, program);
const child = spawn(isScript ? node : command, isScript ? [program, ...args] : args, {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, PATH: [resolve(node, '..'), tools, process.env.PATH].join(delimiter) },
});
child.on('error', (error) => {
  console.error(`cannot start ${program}: ${error.message}`);
  process.exit(127);
});
// A terminal sends Ctrl-C to the whole foreground group: the child decides what it means, we only wait for it.
process.on('SIGINT', () => {});
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => {
  if (signal !== null) console.error(`${program} was ended by ${signal}`);
  process.exit(code ?? 1);
});
