// Entry of every npm script. It is started by whatever node there is (20 or newer), brings what the project needs, then runs
// the asked program under Node 24 with the project's own tools first on PATH:
//
//   node scripts/run.mjs [--host demo|test] PROGRAM [ARGUMENT]...
//
// --host also installs the Debian packages that the demo or the tests use (root only; otherwise it says which are missing).
// Plain JavaScript without dependencies, since nothing is installed yet when it starts. In this file such as Node 12 can
// read, so that an old node gets as far as the sentence that says so.
import { spawn } from 'node:child_process';
import { delimiter, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const oldestMajor = 20;
// Not import.meta.dirname, which Node has only since 20.11.
const root = resolve(fileURLToPath(import.meta.url), '../..');

if (Number.parseInt(process.versions.node, 10) < oldestMajor) {
  console.error(
    `this needs Node ${oldestMajor} or newer, and the node on PATH is ${process.version}`,
  );
  process.exit(1);
}
main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});

async function main(words) {
  const purpose = words[0] === '--host' ? words.splice(0, 2)[1] : undefined;
  const [program, ...args] = words;
  if (program === undefined) usage();

  const { bringDependencies } = await import('./setup/dependencies.mjs');
  const { bringPackages } = await import('./setup/packages.mjs');
  const node = bringDependencies(root);
  if (purpose !== undefined) bringPackages(purpose);
  start(program, args, node);
}

function usage() {
  console.error('usage: node scripts/run.mjs [--host demo|test] PROGRAM [ARGUMENT]...');
  process.exit(2);
}

function start(program, args, node) {
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
    // As `code ?? 1`, which Node 12 can not read.
    process.exit(code === null ? 1 : code);
  });
}
