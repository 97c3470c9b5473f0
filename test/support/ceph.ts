import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { StoragePool } from '#spec';
import { tmpDir } from './tmp.ts';

const run = promisify(execFile);
const port = 16_789;
const user = 'nomad';

/**
 * A Ceph cluster of one monitor and one OSD that keeps its data in memory, on the loopback of the test's network
 * namespace. Its one pool is `vms`.
 */
export class CephCluster implements AsyncDisposable {
  readonly #dir: string;
  readonly #children: ChildProcess[] = [];
  #secret = '';

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** `dir` is an empty directory. */
  static async start(dir: string): Promise<CephCluster> {
    const cluster = new CephCluster(dir);
    try {
      await cluster.#startMonitor();
      await cluster.#startOsd();
      await cluster.#createPool();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** As the plugin's configuration has it. */
  get pool(): Extract<StoragePool, { kind: 'ceph' }> {
    const hosts = [{ host: '127.0.0.1', port }];
    return { kind: 'ceph', name: 'ceph', pool: 'vms', hosts, username: user, secret: this.#secret };
  }

  /** Runs `rbd` or `ceph` as the administrator. */
  async admin(program: 'ceph' | 'rbd', ...args: readonly string[]): Promise<string> {
    const env = { ...process.env, CEPH_CONF: join(this.#dir, 'ceph.conf') };
    const { stdout } = await run(program, [...args], { env, timeout: 60_000 });
    return stdout.trim();
  }

  /** Stops the processes, so that nothing answers any more, or lets them go on. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    for (const child of this.#children) child.kill(signal);
  }

  async #startMonitor(): Promise<void> {
    const fsid = randomUUID();
    for (const name of ['mon', 'osd', 'run']) mkdirSync(join(this.#dir, name));
    const keyring = join(this.#dir, 'keyring');
    writeFileSync(join(this.#dir, 'ceph.conf'), this.#config(fsid, keyring));
    const all = ['--cap', 'mon', 'allow *', '--cap', 'osd', 'allow *'];
    await this.#tool('ceph-authtool', '-C', keyring, '--gen-key', '-n', 'mon.', ...all.slice(0, 3));
    await this.#tool('ceph-authtool', keyring, '--gen-key', '-n', 'client.admin', ...all);
    const map = join(this.#dir, 'monmap');
    const address = `127.0.0.1:${port}`;
    await this.#tool('monmaptool', '--create', '--fsid', fsid, '--add', 'a', address, map);
    await this.#tool('ceph-mon', '--mkfs', '-i', 'a', '--monmap', map, '--keyring', keyring);
    this.#daemon('ceph-mon', '-i', 'a', '-f');
    await this.admin('ceph', '--connect-timeout', '60', 'mon', 'stat');
  }

  async #startOsd(): Promise<void> {
    const id = randomUUID();
    const secret = await this.#tool('ceph-authtool', '--gen-print-key');
    const secrets = join(this.#dir, 'osd-secrets');
    writeFileSync(secrets, JSON.stringify({ cephx_secret: secret }));
    const number = await this.admin('ceph', 'osd', 'new', id, '-i', secrets);
    const keyring = join(this.#dir, 'osd', 'keyring');
    const name = `osd.${number}`;
    await this.#tool('ceph-authtool', '-C', keyring, '--name', name, '--add-key', secret);
    const options = ['-i', number, '--keyring', keyring];
    await this.#tool('ceph-osd', ...options, '--mkfs', '--osd-uuid', id);
    this.#daemon('ceph-osd', ...options, '-f');
    for (let tries = 0; !/\b1 up\b/.test(await this.admin('ceph', 'osd', 'stat')); tries += 1) {
      if (tries > 120) throw new Error('the OSD does not come up');
      await sleep(250);
    }
  }

  async #createPool(): Promise<void> {
    await this.admin('ceph', 'osd', 'pool', 'create', 'vms', '8', '8');
    await this.admin('ceph', 'osd', 'pool', 'application', 'enable', 'vms', 'rbd');
    await this.admin('rbd', 'pool', 'init', 'vms');
    const caps = ['mon', 'profile rbd', 'osd', 'profile rbd pool=vms'];
    await this.admin('ceph', 'auth', 'get-or-create', `client.${user}`, ...caps);
    this.#secret = await this.admin('ceph', 'auth', 'get-key', `client.${user}`);
  }

  #config(fsid: string, keyring: string): string {
    const settings = {
      fsid,
      'mon host': `127.0.0.1:${port}`,
      'auth cluster required': 'cephx',
      'auth service required': 'cephx',
      'auth client required': 'cephx',
      'osd pool default size': 1,
      'osd pool default min size': 1,
      'mon allow pool size one': true,
      'mon warn on pool no redundancy': false,
      'osd crush chooseleaf type': 0,
      'run dir': join(this.#dir, 'run'),
      'admin socket': join(this.#dir, 'run', '$name.asok'),
      'log file': join(this.#dir, '$name.log'),
      'pid file': join(this.#dir, 'run', '$name.pid'),
      keyring,
      'mon data': join(this.#dir, 'mon'),
      'osd data': join(this.#dir, 'osd'),
      'osd objectstore': 'memstore',
      'memstore device bytes': 1024 ** 3,
      'osd memory target': 939_524_096,
      'ms bind ipv6': false,
      'public addr': '127.0.0.1',
      'cluster addr': '127.0.0.1',
      'setuser match path': '',
    };
    const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}\n`);
    return `[global]\n${lines.join('')}`;
  }

  async #tool(program: string, ...args: readonly string[]): Promise<string> {
    const env = { ...process.env, CEPH_CONF: join(this.#dir, 'ceph.conf') };
    const { stdout } = await run(program, [...args], { env, timeout: 60_000 });
    return stdout.trim();
  }

  #daemon(program: string, ...args: readonly string[]): void {
    const log = join(this.#dir, `${program}.out`);
    appendFileSync(log, '');
    const out = openSync(log, 'a');
    const env = { ...process.env, CEPH_CONF: join(this.#dir, 'ceph.conf') };
    this.#children.push(spawn(program, [...args], { env, stdio: ['ignore', out, out] }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exit = once(child, 'exit');
      child.kill('SIGKILL');
      await exit;
    }
  }
}

/** A pool of a cluster that `rbd`, which the test has in its place, does not reach. */
export function unreachablePool(t: TestContext): Extract<StoragePool, { kind: 'ceph' }> {
  const bin = tmpDir(t);
  const answer = `echo "rbd: couldn't connect to the cluster!" >&2; exit 110`;
  writeFileSync(join(bin, 'rbd'), `#!/bin/sh\n${answer}\n`, { mode: 0o755 });
  const { PATH } = process.env;
  process.env.PATH = bin;
  t.after(() => {
    process.env.PATH = PATH;
  });
  const hosts = [{ host: '192.0.2.1', port: 6789 }];
  const access = { pool: 'vms', hosts, username: user, secret: 'a2V5' };
  return { kind: 'ceph', name: 'far', ...access };
}
