import assert from 'node:assert/strict';
import { test } from 'node:test';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { must } from '../support/guest.ts';
import { commandsWork } from '../support/guest-commands.ts';
import { groundFor, guestOrSkip, guestSpec, told, until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { soon } from '../support/vm.ts';

const sshdAlone = `#!/bin/sh
ssh.sh
kill $(cat /run/qga.pid)
`;

const startAgent = `
port=$(grep -l org.qemu.guest_agent.0 /sys/class/virtio-ports/*/name | cut -d / -f 5)
qemu-ga -d -m virtio-serial -p /dev/$port -f /run/qga.pid -t /run
`;

const way = sh('[ -n "$SSH_CONNECTION" ] && echo ssh || echo agent');

inOwnNetns(
  import.meta.url,
  ['ip', 'nft'],
  () => {
    test('both ways into one guest', async (t) => {
      if (!requireOrSkip(t, findProgram('ssh') !== undefined, 'needs ssh')) return;
      const guest = await guestOrSkip(t, 'tiny');
      if (guest === undefined) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using ground = groundFor(guest);
      const pipes = ground.pipes();
      const log = ground.read(pipes.stdoutPath);
      const spec = guestSpec(ground, guest, {
        ...pipes,
        nics: [{ kind: 'bridge', bridge: 'virbr0', ports: [] }],
        guest: { ...ground.spec(0).guest, userData: { kind: 'inline', text: sshdAlone } },
      });
      const domain = await ground.virtualizer().createDomain(spec, soon(60_000));
      await told(log, /TINY-READY/, 120_000);
      const run = runCommand.bind(undefined, domain);
      const wayIs = async (name: string): Promise<void> => {
        assert.equal((await run(way)).stdout, `${name}\n`);
      };

      await t.test(
        'P-32 P-33 V-95: by ssh as by the agent: streams, exit codes, 100 MiB and back, 500 in turn, a time limit, four terminals',
        async (t) => {
          await wayIs('ssh');
          await commandsWork(t, domain, { terminal: /\/dev\/pts\/\d/, together: false });
        },
      );

      await t.test('V-95: by the agent as soon as it runs', async () => {
        assert.equal((await run(sh(startAgent))).exitCode, 0);
        await until(
          () => run(way),
          ({ stdout }) => stdout === 'agent\n',
          20_000,
        );
      });

      await t.test(
        'V-95: by ssh where the agent has hung, by the agent once it goes on',
        async (t) => {
          await run(sh('kill -STOP $(cat /run/qga.pid)'));
          for (const which of ['first', 'next', 'next']) {
            const begun = performance.now();
            await wayIs('ssh');
            t.diagnostic(`${which} command: ${Math.round(performance.now() - begun)} ms`);
          }
          await run(sh('kill -CONT $(cat /run/qga.pid)'));
          await until(
            () => run(way),
            ({ stdout }) => stdout === 'agent\n',
            20_000,
          );
        },
      );

      await t.test('V-95: where neither answers, the error names what each lacks', async () => {
        await run(sh('killall dropbear; kill -STOP $(cat /run/qga.pid)'));
        await assert.rejects(execIn(domain, ['true']), {
          name: 'VmError',
          message:
            /^by agent: the guest agent is connected, but does not answer; by ssh: no sshd answers at 192\.168\.122\.\d+, port 22: the guest needs openssh-server/,
          recoverable: true,
        });
      });
    });
  },
  600_000,
);
