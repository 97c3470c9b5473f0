import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cacheFolder } from './cache.ts';

/**
 * Makes the folder by a recipe, which is given a new one to fill; parallel callers build once. Throws an Error with the
 * recipe's output.
 */
export async function buildCached(
  name: string,
  {
    folder,
    recipe,
    args,
  }: { readonly folder: string; readonly recipe: string; readonly args: readonly string[] },
  log: (line: string) => void,
): Promise<void> {
  log(`${name}: building into ${folder}`);
  const own = join(cacheFolder(), `.${name.replaceAll(' ', '-')}`);
  const command = [join(import.meta.dirname, 'cached.sh'), `${own}.draft`, folder, recipe, ...args];
  // --close: a process that the recipe leaves must not keep the lock.
  const { code, lines } = await output('flock', ['--close', `${own}.lock`, ...command], (line) =>
    log(`${name}: ${line}`),
  );
  if (code !== 0) throw new Error(`${name} could not be built:\n${lines.slice(-20).join('\n')}`);
}

/** Runs a program; passes each line of both its outputs to `log` as it comes. */
export async function output(
  program: string,
  args: readonly string[],
  log: (line: string) => void = () => {},
): Promise<{ code: number; lines: readonly string[] }> {
  const lines: string[] = [];
  const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => {
      lines.push(line);
      log(line);
    });
  }
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on('error', reject);
  child.on('close', (code) => resolve(code ?? 1));
  return { code: await promise, lines };
}
