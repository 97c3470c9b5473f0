// Entry of every npm script. It is started by the node on PATH (20 or newer), installs what the project needs, then runs
// the given program under Node 24 with the project's own tools first on PATH:
//
//   node scripts/run.mjs [--host demo|test] PROGRAM [ARGUMENT]...
//
// --host also installs the Debian packages that the demo or the tests use (root only; otherwise it lists the missing ones).
// Plain JavaScript without dependencies, since nothing is installed yet when it starts. This file has only syntax that
// Node 12 can parse, so that an old node gets as far as the message about its version.
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

async function main(argv) {
  const purpose = argv[0] === '--host' ? argv.splice(0, 2)[1] : undefined;
  const [program, ...args] = argv;
  if (program === undefined) usage();

  const { installDependencies } = await import('./setup/dependencies.mjs');
  const { installPackages } = await import('./setup/packages.mjs');
  const node = installDependencies(root);
  if (purpose !== undefined) installPackages(purpose);
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
  // A terminal sends Ctrl-C to the whole foreground group: the child process handles it, this process only waits.
  process.on('SIGINT', () => {});
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => {
    if (signal !== null) console.error(`${program} was ended by ${signal}`);
    // As `code ?? 1`, which Node 12 cannot parse.
    process.exit(code === null ? 1 : code);
  });
}
