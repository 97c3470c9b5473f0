import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { AgentCommands } from '../../src/vm/guest/agent/agent-commands.ts';
import { LeftCommands } from '../../src/vm/guest/running.ts';
import { CommandFiles } from '../../src/vm/store/command-files.ts';
import { type AgentRequest, obedient, scriptedGuest } from '../support/scripted-guest.ts';
import { tmpDir } from '../support/tmp.ts';
import { collect, eventually, soon } from '../support/vm.ts';

const isEnd = ({ script }: AgentRequest): boolean => script.includes('NOMAD_ENDED=');

test('P-41: a command that could not be ended is ended by the next plugin process, and known to none after a reset', async (t) => {
  let isReached = false;
  const { commands, next, commandsDir, asked, ports } = await scriptedGuest(t, (request) =>
    isEnd(request) && !isReached ? '{"error": {"desc": "not now"}}' : obedient(request),
  );
  const leaveOne = async (own: AgentCommands): Promise<string> => {
    const request = { command: ['sleep', '1000'], env: {}, terminal: false };
    const command = await own.start(request, soon());
    assert.equal(ports.size, 3);
    command[Symbol.dispose]();
    await eventually(() => ports.size === 0, 'no port');
    const [session = 'none'] = readdirSync(commandsDir);
    return session;
  };
  const left = await leaveOne(commands);
  // As a kill of the process ends its tries.
  commands[Symbol.dispose]();
  isReached = true;
  const later = next();
  t.after(() => later[Symbol.dispose]());
  later.recover(soon());
  await eventually(
    () => asked.findLast(isEnd)?.script.includes(left) === true && asked.filter(isEnd).length > 1,
    'another try',
  );
  await eventually(() => readdirSync(commandsDir).length === 0, 'no file');

  isReached = false;
  assert.notEqual(await leaveOne(later), 'none');
  later.reset();
  await eventually(() => readdirSync(commandsDir).length === 0, 'no file');
});

test('of commands that can never be ended, as where the agent has hung for months, the newest are kept', async (t) => {
  const dir = join(tmpDir(t), 'commands');
  using left = new LeftCommands({
    end: () => Promise.reject(new Error('it has hung')),
    files: new CommandFiles(dir),
    log: collect([]),
  });
  const names = Array.from({ length: 100 }, (_, index) => `session-${index}`);
  for (const name of names) await left.add(name, new Error('it has hung'));
  const kept = readdirSync(dir);
  assert.ok(kept.length > 0 && kept.length < 40, `${kept.length} files`);
  assert.deepEqual(new Set(kept), new Set(names.slice(-kept.length)));
});
