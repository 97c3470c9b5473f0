import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { type SeedRequest, writeIso } from '#cloudinit';
import { findProgram } from '#host';
import { type Guest, type GuestName, guestImage } from '../../scripts/guests/images.ts';
import { buildSeed } from '../../src/cloudinit/seed.ts';
import { patient } from '../support/patience.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';

// Bare QEMU on purpose: these show the guests and their seed, whatever the driver makes of them.

const mac = '52:54:00:aa:bb:01';
const request: SeedRequest = {
  instanceId: 'web-1a2b3c4d',
  hostname: 'nomad-web-1a2b3c4d',
  userData: '#!/bin/sh\necho "SCRIPT-RAN $(hostname)"\nstatus.sh | sed "s/^/STATUS /"\n',
  commands: [],
  env: {},
  mounts: [],
  network: [
    {
      mac,
      address: '10.0.2.77',
      prefix: 24,
      gateway: '10.0.2.2',
      nameservers: ['10.0.2.3'],
      mtu: 1400,
    },
  ],
};

const firmware = {
  code: '/usr/share/OVMF/OVMF_CODE_4M.fd',
  vars: '/usr/share/OVMF/OVMF_VARS_4M.fd',
};

async function guestOrSkip(t: TestContext, name: GuestName): Promise<Guest | undefined> {
  const qemu = findProgram('qemu-system-x86_64') !== undefined;
  if (!requireOrSkip(t, qemu, 'needs qemu-system-x86_64')) return undefined;
  try {
    return await guestImage(name);
  } catch (error) {
    requireOrSkip(t, false, String(error));
    return undefined;
  }
}

class Running implements AsyncDisposable {
  readonly lines: string[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static start(t: TestContext, guest: Guest): Running {
    const folder = tmpDir(t);
    const seed = join(folder, 'seed');
    writeFileSync(seed, writeIso(buildSeed(request), { label: 'cidata' }), { mode: 0o600 });
    const disk = (name: string, driver: string, file: string): string =>
      JSON.stringify({
        driver,
        'node-name': name,
        'read-only': true,
        file: { driver: 'file', filename: file },
      });
    const args = [
      ...['-accel', 'tcg,tb-size=64', '-machine', 'q35', '-m', String(guest.memoryMiB)],
      ...['-nodefaults', '-display', 'none', '-serial', 'stdio'],
      ...['-blockdev', disk('disk', 'qcow2', guest.path)],
      ...['-device', 'virtio-blk-pci,drive=disk,bootindex=0'],
      ...['-blockdev', disk('seed', 'raw', seed), '-device', 'virtio-blk-pci,drive=seed'],
      ...['-netdev', 'user,id=net,restrict=on'],
      ...['-device', `virtio-net-pci,netdev=net,mac=${mac},romfile=`],
      ...(guest.firmware === 'uefi' ? uefi(folder) : []),
    ];
    const program = findProgram('qemu-system-x86_64') ?? '';
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const running = new Running(child);
    createInterface({ input: child.stdout }).on('line', (line) =>
      running.lines.push(line.trimEnd()),
    );
    return running;
  }

  /** Types a line on the console. */
  type(line: string): void {
    this.#child.stdin?.write(`${line}\n`);
  }

  async ended(signal: AbortSignal): Promise<number | null> {
    if (this.#child.exitCode === null) await once(this.#child, 'exit', { signal });
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await once(this.#child, 'exit');
  }
}

function uefi(folder: string): string[] {
  const vars = join(folder, 'vars');
  copyFileSync(firmware.vars, vars);
  const flash = (file: string, more: string): string[] => [
    '-drive',
    `if=pflash,format=raw,file=${file}${more}`,
  ];
  return [...flash(firmware.code, ',readonly=on'), ...flash(vars, '')];
}

for (const name of ['tiny', 'tiny-uefi'] as const) {
  test(`V-56 V-57 V-63 D39: guest ${name} boots and finds name, address and script in the seed`, async (t) => {
    const guest = await guestOrSkip(t, name);
    if (guest === undefined) return;
    const hasFirmware = existsSync(firmware.code);
    if (name === 'tiny-uefi' && !requireOrSkip(t, hasFirmware, 'needs ovmf')) return;
    await using running = Running.start(t, guest);
    const signal = AbortSignal.timeout(patient(90_000));
    const seen = (pattern: RegExp): boolean => running.lines.some((line) => pattern.test(line));
    while (!seen(/^TINY-READY/)) {
      signal.throwIfAborted();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    for (const line of [
      'TINY-CIDATA /dev/vdb',
      'GUEST-STATIC eth0 10.0.2.77',
      'SCRIPT-RAN nomad-web-1a2b3c4d',
      'STATUS address=eth0 10.0.2.77/24',
      `STATUS nic=eth0 mac=${mac} mtu=1400`,
      'STATUS gateway=via 10.0.2.2 dev eth0',
      'STATUS nameserver=10.0.2.3',
    ]) {
      assert.ok(running.lines.includes(line), `${line}\nis not in\n${running.lines.join('\n')}`);
    }
    running.type('shutdown -P');
    assert.equal(await running.ended(signal), 0);
    assert.ok(seen(/GUEST-POWEROFF/));
  });
}
