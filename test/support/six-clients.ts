import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountTmpfs } from '#host';
import type { Machine } from './guest.ts';
import { patient } from './patience.ts';

/** What a real client was given, by the names that it gives its script. */
export type Given = Readonly<Record<string, string>>;

/** dhclient of ISC, until it is bound or for as long as `waitMs`; undefined where it was given nothing. */
export async function dhclient(guest: Machine, waitMs = 10_000): Promise<Given | undefined> {
  await withLinkLocal(guest);
  return inDirectory(async (dir) => {
    // With -d it stays in the foreground, also once it is bound.
    const script = await scriptIn(dir, 'BOUND6', 'kill $PPID');
    const files = ['-lf', `${dir}/leases`, '-pf', `${dir}/pid`, '-cf', '/dev/null'];
    const args = ['-6', '-1', '-d', '-sf', script, ...files, 'eth0'];
    await guest.namespace.try('timeout', seconds(waitMs), 'dhclient', ...args);
    return givenIn(dir);
  });
}

/** dhcpcd, which configures eth0 with what the router and the DHCPv6 server give. */
export async function dhcpcd(
  guest: Machine,
  ...options: readonly string[]
): Promise<Given | undefined> {
  return inDirectory(async (dir) => {
    const script = await scriptIn(dir, 'BOUND6', ':');
    // Directories of its own, in this process's namespace of mounts: one that runs for another file has an eth0 as well.
    for (const path of ['/var/lib/dhcpcd', '/run/dhcpcd']) {
      await mkdir(path, { recursive: true });
      mountTmpfs(path, { sizeBytes: 1 << 20, mode: 0o755 });
    }
    const args = ['-6', '-1', '-B', '-f', '/dev/null', '-c', script, ...options, 'eth0'];
    await guest.namespace.try('timeout', seconds(15_000), 'dhcpcd', ...args);
    return givenIn(dir);
  });
}

/** Until then the guest sends nothing from it, and dhclient gives up: the kernel asks whether another has the address. */
export async function withLinkLocal(guest: Machine): Promise<void> {
  const deadline = performance.now() + patient(10_000);
  const shown = ['-6', '-o', 'addr', 'show', 'dev', 'eth0', 'scope', 'link', '-tentative'];
  while ((await guest.namespace.ip(...shown)) === '') {
    assert.ok(performance.now() < deadline, 'the guest got no link-local address');
    await sleep(20);
  }
}

async function inDirectory<T>(run: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), 'nq-client-'));
  try {
    return await run(dir);
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** A script for a client to call: it keeps the variables that it has for a reason. */
async function scriptIn(dir: string, reason: string, then: string): Promise<string> {
  const path = join(dir, 'script');
  const lines = [`[ "$reason" = ${reason} ] || exit 0`, `env > ${dir}/given`, then];
  await writeFile(path, `#!/bin/sh\n${lines.join('\n')}\n`, { mode: 0o755 });
  return path;
}

async function givenIn(dir: string): Promise<Given | undefined> {
  const text = await readFile(join(dir, 'given'), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const found = text.matchAll(/^(\w+)=(.*)$/gm);
  return Object.fromEntries([...found].map(([, name = '', value = '']) => [name, value]));
}

function seconds(ms: number): string {
  return String(patient(ms) / 1000);
}
