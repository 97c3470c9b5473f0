import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { SshCommands } from '../../src/vm/guest/ssh/ssh-commands.ts';
import { writeSshFiles } from '../../src/vm/ssh/ssh-files.ts';
import { must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, soon, uidRange } from '../support/vm.ts';

inOwnNetns(import.meta.url, ['ip'], () => {
  test('V-95: a command that no sshd began leaves nothing to end: the guest is not asked again', async (t) => {
    const program = findProgram('ssh') ?? '';
    if (!requireOrSkip(t, program !== '', 'needs ssh')) return;
    await must('ip', 'link', 'set', 'lo', 'up');
    let connections = 0;
    const noSshd = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    t.after(() => noSshd.close());
    const address = '127.0.0.1';
    await new Promise<void>((resolve) => noSshd.listen(22, address, resolve));
    const dir = tmpDir(t);
    const paths = { ssh: `${dir}/ssh`, sshCommands: `${dir}/ssh-commands` };
    const uid = uidRange.min;
    const alias = 'guest';
    await writeSshFiles(paths, { uid, alias, privateKey: '', hostKey: 'ssh-ed25519 none' });
    await using commands = new SshCommands({
      host: { program, uid, address, alias, dir: paths.ssh },
      commandsDir: paths.sshCommands,
      user: undefined,
      log: collect([]),
    });
    for (const tries of [1, 2]) {
      const request = { command: ['true'], env: {}, terminal: false };
      await assert.rejects(commands.start(request, soon()), {
        name: 'VmError',
        message: /^no sshd answers at 127\.0\.0\.1, port 22/,
      });
      // Returns when no connection is about to be made.
      await immediate();
      await commands.end(soon());
      assert.equal(connections, tries);
    }
    assert.deepEqual(readdirSync(paths.sshCommands), []);
  });
});
