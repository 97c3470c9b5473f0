import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { findByUser } from '#host';
import { readRecord, sshOf } from '../../src/vm/store/record.ts';
import { execIn, runCommand, sh } from '../support/exec.ts';
import { must } from '../support/guest.ts';
import { exitCodes } from '../support/guest-commands.ts';
import { groundFor, guestOrSkip, guestSpec, powerOff, told, until } from '../support/live-vm.ts';
import { inOwnNetns } from '../support/netns.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { streamThrough } from '../support/streamed.ts';
import { resizeOneOfTwo, Terminal, workAtTerminal } from '../support/terminal.ts';
import { soon } from '../support/vm.ts';

const onBridge = { nics: [{ kind: 'bridge', bridge: 'virbr0', ports: [] }] } as const;

/** Of "hush", of a kind that cloud-init does not know. */
const hash = '$y$j9T$abcdefghijklmnopqrstu.$dlcG.MorziVAEIbgVubYyuTJYjKfjOI9s.WbUq9YQe6';

const ownKey =
  'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJlYWxrZXlub3RhcmVh own@example';

/** No agent, as in Debian's own cloud images, keys of its own, and the line that comes once sshd may be asked. */
const userData = `#cloud-config
# The guest's own list, and what runs the scripts of each boot.
cloud_final_modules: [write-files-deferred, scripts-vendor, scripts-per-boot, scripts-user, final-message]
bootcmd:
  - systemctl mask --now qemu-guest-agent
  - umask > /run/umask
users:
  - default
  - name: worker
    ssh_authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0bm5vdGFyZWFsa2V5bm90YXJlYWxrZXlub3RhcmVh me@example]
runcmd:
  - echo "SSH-READY" > /dev/ttyS0
`;

inOwnNetns(
  import.meta.url,
  ['ip', 'nft'],
  () => {
    test('V-95: where neither way is there, the error names what each lacks', async (t) => {
      const guest = await guestOrSkip(t, 'tiny');
      if (guest === undefined) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using ground = groundFor(guest);
      const virtualizer = ground.virtualizer();
      const error = async (changes: object): Promise<string> => {
        const spec = guestSpec(ground, guest, changes);
        const domain = await virtualizer.createDomain(spec, soon(60_000));
        const { message } = await execIn(domain, ['true']).then(
          () => assert.fail('it was started'),
          (error: Error) => error,
        );
        await virtualizer.destroyDomain(domain.name);
        return message;
      };
      const agent = 'the guest agent is not connected: install qemu-guest-agent in the guest';
      assert.match(
        await error(onBridge),
        new RegExp(
          `^by agent: ${agent}.*; by ssh: no sshd answers at 192\\.168\\.122\\.\\d+, port 22`,
        ),
      );
      assert.match(
        await error({}),
        new RegExp(`^by agent: ${agent}.*; by ssh: the VM has no network_interface in a managed`),
      );
      assert.match(await error({ ...onBridge, exec: { via: 'agent' } }), new RegExp(`^${agent}`));
      await assert.rejects(error({ exec: { via: 'ssh' } }), {
        code: 'job',
        message: /^exec\.via: ssh needs the seed, and an address/,
      });
    });

    test('commands by ssh in a Debian without an agent', async (t) => {
      if (!requireOrSkip(t, findProgram('ssh') !== undefined, 'needs ssh')) return;
      const guest = await guestOrSkip(t, 'debian');
      if (guest === undefined) return;
      await must('ip', 'link', 'set', 'lo', 'up');
      await using ground = groundFor(guest);
      const pipes = ground.pipes();
      const log = ground.read(pipes.stdoutPath);
      const spec = guestSpec(ground, guest, {
        ...pipes,
        ...onBridge,
        vcpus: 1,
        memoryMiB: 768,
        exec: { onHangUp: ['systemctl', 'reload', 'ssh'] },
        guest: {
          hostname: 'shop-7',
          userData: { kind: 'inline', text: userData },
          password: hash,
          authorizedKey: ownKey,
          commands: ['echo "$PLACE" >> /run/boots'],
          commandsOn: 'boot',
          timezone: undefined,
          env: { PLACE: "at 'boot'" },
        },
      });
      const starter = await ground.starter(spec);
      const known = await starter.create();
      await told(log, /SSH-READY/, 240_000);
      await starter.exec(['sleep', '1234'], ['sh', '-c', 'sleep 1234 & wait']);
      await starter.exec(['env', '-i', 'sh', '-c', 'trap "" HUP; while :; do sleep 1234; done']);
      await starter.kill();
      const virtualizer = ground.virtualizer();
      const domain = await virtualizer.recoverDomain(known, spec, soon());
      assert.ok(domain !== undefined);
      assert.deepEqual(domain.onHangUp, spec.exec?.onHangUp);
      const run = runCommand.bind(undefined, domain);
      const record = await readRecord(ground.paths(spec.name).record);
      const ssh = record && sshOf(record);
      assert.ok(ssh !== undefined);

      await t.test('P-41: a plugin that was killed leaves no command in the guest', async () => {
        const left = await run(sh('ps -eo args | grep "[s]leep 1234"'));
        assert.deepEqual([left.exitCode, left.stdout], [1, '']);
      });

      await t.test('V-64: a password that was hashed is that of the default user', async () => {
        const { stdout } = await run(['getent', 'shadow', 'debian']);
        assert.equal(stdout.split(':')[1], hash);
      });

      await t.test('V-145: commands of each boot have run, and run again at the next', async () => {
        assert.equal((await run(['cat', '/run/boots'])).stdout, "at 'boot'\n");
        // What cloud-init does at a boot, without one.
        const again = 'cloud-init single --name scripts-per-boot --frequency always';
        assert.equal((await run(sh(`${again} >&2`))).exitCode, 0);
        assert.equal((await run(['cat', '/run/boots'])).stdout, "at 'boot'\nat 'boot'\n");
      });

      await t.test('P-33 V-95: streams apart, exit code, arguments as they are', async () => {
        const ran = await run([
          'sh',
          '-c',
          'echo "$1"; echo wrong >&2; exit 3',
          'x',
          `a 'b" $c\n*`,
        ]);
        assert.deepEqual(ran, {
          stdout: `a 'b" $c\n*\n`,
          stderr: 'wrong\n',
          exitCode: 3,
          signal: 0,
        });
      });

      await t.test('exit codes: no such program, a signal, 255', async () => {
        const none = await run(['no-such-program']);
        assert.equal(none.exitCode, 127);
        assert.match(none.stderr, /no-such-program: not found/);
        const killed = await run(sh('kill -TERM $$'));
        assert.deepEqual([killed.exitCode, killed.signal], [143, 15]);
        assert.equal((await run(sh('exit 255'))).exitCode, 255);
      });

      await t.test('the environment is the task’s, in no command line of the guest', async () => {
        const env = { GREETING: "it's\nme", SECRET: 'x'.repeat(10_000), 'NOT-A-NAME': 'x' };
        const { stdout } = await run(sh('env; cat /proc/[0-9]*/cmdline | tr "\\0" "\\n"'), { env });
        assert.match(stdout, /^GREETING=it's\nme$/m);
        assert.equal([...stdout.matchAll(/x{10000}/g)].length, 1);
        assert.match(stdout, /^HOME=\/root$/m);
        assert.doesNotMatch(stdout, /^NOT-A-NAME/m);
      });

      await t.test('input to its end', async () => {
        assert.equal((await run(['cat'], { input: 'abc' })).stdout, 'abc');
        assert.equal((await run(['cat'])).stdout, '');
        const { stdout } = await run(['wc', '-c'], { input: 'x'.repeat(1_000_003) });
        assert.equal(stdout.trim(), '1000003');
      });

      await t.test('100 MiB through stdin and back, and 8 with a slow reader', async (t) => {
        t.diagnostic(`100 MiB in ${Math.round(await streamThrough(domain, 100))} ms`);
        await streamThrough(domain, 8, { pauseMs: 5 });
      });

      await t.test('eight at once', async () => {
        assert.deepEqual(await exitCodes(domain), [0, 1, 2, 3, 4, 5, 6, 7]);
      });

      await t.test('nothing of a command is left when the user goes away', async () => {
        const flooding = sh('(sleep 1000 & wait) & while :; do echo flood; done');
        using flood = await execIn(domain, flooding);
        using shown = await execIn(domain, flooding, { terminal: true });
        await shown.write(Buffer.from('typed\n'), soon());
        assert.equal((await run(['true'])).exitCode, 0);
        for (const command of [flood, shown]) command[Symbol.dispose]();
        const count = 'ps -eo args | grep -c "[s]leep 1000\\|[e]cho flood"';
        const none = (it: string): boolean => it === '0';
        await until(async () => (await run(sh(count))).stdout.trim(), none, 20_000);
      });

      await t.test('a terminal: size, echo, Ctrl-C, its exit code', async () => {
        await workAtTerminal(domain, /\/dev\/pts\/\d/);
        await resizeOneOfTwo(domain);
      });

      await t.test(
        'the job’s user data and keys are as they were, beside the key for root',
        async () => {
          const { stdout } = await run(
            sh(
              'cat /run/umask; sed "s/.* //" ~worker/.ssh/authorized_keys ~debian/.ssh/authorized_keys',
            ),
          );
          assert.equal(stdout, '0022\nme@example\nown@example\n');
          const { stdout: keys } = await run(['cat', '/root/.ssh/authorized_keys']);
          assert.match(
            keys,
            /^restrict,pty,from="192\.168\.122\.1" ssh-ed25519 \S+ nomad-driver-qmp$/m,
          );
          // By this one cloud-init only refuses.
          assert.match(keys, /^no-port-forwarding,.*command=.* own@example$/m);
        },
      );

      await t.test(
        'ssh is a user of its own, alone with its files; the key is its own',
        async () => {
          using sleeper = await execIn(domain, ['sleep', '1000']);
          const found = await findByUser(ssh.uid, soon());
          assert.ok(found.length >= 2);
          assert.notEqual(ssh.uid, record?.uid);
          for (const { pid } of found) {
            const status = readFileSync(`/proc/${pid}/status`, 'latin1');
            assert.match(status, new RegExp(`^Uid:\t${ssh.uid}\t${ssh.uid}\t`, 'm'));
            assert.match(status, /^Groups:\t\s*$/m);
            assert.match(status, /^CapEff:\t0+$/m);
            const seen = readdirSync(`/proc/${pid}/root`).toSorted();
            assert.deepEqual(
              seen.filter((name) => !/^(bin|sbin|lib\d*|usr|dev)$/.test(name)),
              ['etc', 'ssh'],
            );
            assert.deepEqual(readdirSync(`/proc/${pid}/root/etc`).toSorted(), [
              'ld.so.cache',
              'passwd',
            ]);
          }
          const networks = found.filter(
            ({ pid }) => readlinkSync(`/proc/${pid}/ns/net`) === readlinkSync('/proc/self/ns/net'),
          );
          assert.equal(networks.length, 1);
          const { mode, uid } = statSync(join(ground.paths(spec.name).ssh, 'key'));
          assert.deepEqual([mode & 0o777, uid], [0o600, ssh.uid]);
          sleeper[Symbol.dispose]();
        },
      );

      await t.test(
        'a connection that is cut ends its commands, and the next has a new one',
        async () => {
          // It may be noticed before the next command begins, or after.
          for (const atOnce of [false, true, true, true]) {
            using sleeper = await execIn(domain, ['sleep', '1000']);
            for (const { pid } of await findByUser(ssh.uid, soon())) process.kill(pid, 'SIGKILL');
            const next = atOnce ? run(['true']) : undefined;
            for await (const _ of sleeper.output);
            await assert.rejects(sleeper.exit(soon()), /the command was lost/);
            assert.equal((await (next ?? run(['true']))).exitCode, 0);
          }
        },
      );

      await virtualizer[Symbol.asyncDispose]();
      // As if the job had set the user from the start.
      const { record: path } = ground.paths(spec.name);
      const written = JSON.parse(readFileSync(path, 'utf8'));
      writeFileSync(
        path,
        JSON.stringify({ ...written, exec: { ...written.exec, user: 'worker' } }),
      );
      const next = ground.virtualizer();
      const adopted = await next.recoverDomain(known, spec, soon());
      assert.ok(adopted !== undefined);

      await t.test('the user of the job, with a terminal as well', async () => {
        const { stdout, exitCode } = await runCommand(adopted, sh('id -un; echo $HOME; exit 3'));
        assert.deepEqual([stdout, exitCode], ['worker\n/home/worker\n', 3]);
        await workAtTerminal(adopted, /\/dev\/pts\/\d/);
      });

      await t.test(
        'commands in progress do not delay a stop, a shell and one that ignores SIGTERM included; nothing is left of ssh',
        async (t) => {
          const trap = 'trap "" TERM; while :; do sleep 1; done';
          using deaf = await execIn(adopted, sh(trap));
          using shell = await Terminal.open(adopted, { rows: 33, columns: 101 });
          await shell.type('echo here-$((3 + 4))\n');
          await shell.shows(/here-7/);
          const begun = performance.now();
          const exit = await powerOff(next, adopted);
          t.diagnostic(`stop: ${Math.round(performance.now() - begun)} ms`);
          assert.equal(exit?.reason, 'guest-shutdown');
          for await (const _ of deaf.output);
          await assert.rejects(deaf.exit(soon()), { name: 'VmError' });
          const users = (): Promise<readonly object[]> => findByUser(ssh.uid, soon());
          await until(users, (found) => found.length === 0, 10_000);
        },
      );
    });
  },
  900_000,
);
