import assert from 'node:assert/strict';
import { copyFileSync, linkSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { KernelSpec, ShareSpec } from '#spec';
import { guestOrSkip, told } from '../support/live-vm.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

const marker = 'marker="a, b=c  d"';

test('V-81 V-136: a guest is started from the kernel, initrd and command line of its job', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest?.kernel === undefined || guest.initrd === undefined) return;
  await using ground = VmGround.open();
  copyFileSync(guest.kernel, join(ground.taskDir, 'vmlinuz'));
  copyFileSync(guest.initrd, join(ground.taskDir, 'initrd,odd name'));
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const report = '#!/bin/sh\necho "LINE [$(cat /proc/cmdline)]" > /dev/console\n';
  // The disk is one from which nothing of Linux boots.
  const spec = ground.spec(0, {
    ...pipes,
    memoryMiB: guest.memoryMiB,
    guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: report } },
    kernel: {
      kernel: 'vmlinuz',
      initrd: 'initrd,odd name',
      commandLine: `console=ttyS0 quiet panic=-1 ${marker}`,
    },
  });
  const virtualizer = ground.virtualizer();
  const { name } = await virtualizer.createDomain(spec, soon(60_000));
  const text = await told(log, /LINE \[.*\]/, 120_000);
  assert.ok(text.includes(marker), text);
  assert.deepEqual(
    ground.told().filter((message) => message.includes('boot sector')),
    [],
  );
  await virtualizer.destroyDomain(name);
});

const refused: Readonly<
  Record<string, readonly [(at: (name: string) => string) => Partial<KernelSpec>, RegExp]>
> = {
  'a file of the host': [() => ({ kernel: '/etc/shadow' }), /args: -kernel: \/etc\/shadow is not/],
  'a link to one': [
    (at) => {
      symlinkSync('/etc/shadow', at('link'));
      return { initrd: 'link' };
    },
    /args: -initrd: .*link is not inside/,
  ],
  'a second name of one': [
    (at) => {
      linkSync(at('../../secret'), at('second'));
      return { initrd: 'second' };
    },
    /args: -initrd: .*second has 2 names/,
  ],
  'a file that is too large': [
    (at) => {
      writeFileSync(at('large'), '');
      truncateSync(at('large'), 64 * 1024 ** 2 + 1);
      return { kernel: 'large' };
    },
    /args: -kernel: .*large is larger than 67108864 bytes/,
  ],
  'an empty file': [
    (at) => {
      writeFileSync(at('empty'), '');
      return { initrd: 'empty' };
    },
    /args: -initrd: .*empty is empty/,
  ],
};
test('V-33 V-136: kernels are files by the rules of images', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  writeFileSync(join(ground.root, 'secret'), 'x');
  writeFileSync(join(ground.taskDir, 'vmlinuz'), 'x');
  for (const [name, [prepare, message]] of Object.entries(refused)) {
    const named = prepare((file) => join(ground.taskDir, file));
    const kernel = { kernel: 'vmlinuz', commandLine: '', ...named };
    const start = virtualizer.createDomain(ground.spec(0, { kernel }), soon(20_000));
    await assert.rejects(start, { code: 'job', message }, name);
  }
});

test('V-136: a kernel and directories by 9p exclude each other', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  writeFileSync(join(ground.taskDir, 'vmlinuz'), 'x');
  const share: ShareSpec = {
    tag: 'd',
    source: ground.taskDir,
    target: '/d',
    readOnly: true,
    ninePfs: true,
  };
  const kernel = { kernel: 'vmlinuz', commandLine: '' };
  const spec = ground.spec(0, { shares: [share], kernel });
  const virtualizer = ground.virtualizer();
  await assert.rejects(
    virtualizer.createDomain(spec, soon(20_000)),
    /-kernel is not possible with/,
  );
});
