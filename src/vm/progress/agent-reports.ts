import { isIP } from 'node:net';
import { slept, within } from '#host';
import { type AgentCommands, QmpError } from '#qmp';
import { printable, type Waiting } from '#spec';
import type { AgentLine } from '../guest/agent/agent-line.ts';
import type { TaskEvent } from '../task-event.ts';
import { cloudInitEvent } from './cloud-init-report.ts';

/** Short: an agent that hangs must not keep a stop from its turn. */
const answerMs = 1000;
const pausesMs = [1000, 2000, 4000, 8000, 15_000];
/** A guest without a network, or whose cloud-init never finishes, is not asked longer. */
const maxAddressTries = 10;
const maxCloudInitTries = 240;
const maxAbsentTries = 6;
const maxNamed = 8;

/**
 * The addresses that the agent reports, once there are any: information, on which nothing may depend. Undefined when
 * there are none, the agent does not report them, or the signal aborts.
 */
export async function askAddresses(
  agent: AgentLine,
  waiting: Waiting,
): Promise<TaskEvent | undefined> {
  for (let tries = 0; tries < maxAddressTries; tries += 1) {
    try {
      const interfaces = await ask(agent, 'guest-network-get-interfaces', {}, waiting);
      const event = addressEvent(interfaces);
      if (event !== undefined) return event;
    } catch (error) {
      if (isRefused(error)) return undefined;
    }
    if (!(await pauseAfter(tries, waiting))) return undefined;
  }
  return undefined;
}

type Interfaces = AgentCommands['guest-network-get-interfaces']['return'];

/** All but those that every machine has. */
export function addressEvent(interfaces: Interfaces): TaskEvent | undefined {
  const addresses = interfaces.flatMap(({ name, 'ip-addresses': own = [] }) =>
    own
      .map(({ 'ip-address': address }) => address)
      .filter((address) => isIP(address) !== 0 && !/^(127\.|169\.254\.|::1$|fe80:)/i.test(address))
      .map((address) => `${address} (${printable(name, 15)})`),
  );
  const [first] = addresses.toSorted((a, b) => isIP(hostOf(a)) - isIP(hostOf(b)));
  if (first === undefined) return undefined;
  return {
    message: `Guest reports the address ${first}`,
    annotations: { addresses: addresses.slice(0, maxNamed).join(', ') },
  };
}

function hostOf(address: string): string {
  return address.replace(/ .*/, '');
}

// 3: it is off. 4: it has not finished. 5: it is not there, or has not begun.
const script = `
dir=/run/cloud-init
[ -d $dir ] || exit 5
[ ! -e $dir/disabled ] || exit 3
[ -e $dir/result.json ] || exit 4
head -c 16000 $dir/result.json
printf '\\036'
head -c 16000 $dir/status.json
`;
const unfinished = 4;
const absent = 5;
const program = {
  path: '/bin/sh',
  arg: ['-c', script],
  env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
  'capture-output': true,
} as const;

/**
 * cloud-init's own report, when it has finished; the promise may settle earlier, when it is time to ask. Undefined where the
 * guest has no cloud-init, the agent runs no commands, or the signal aborts.
 */
export async function askCloudInit(
  agent: AgentLine,
  finished: Promise<void>,
  waiting: Waiting,
): Promise<TaskEvent | undefined> {
  const woken = new AbortController();
  void finished.then(() => woken.abort());
  for (let tries = 0; tries < maxCloudInitTries; tries += 1) {
    try {
      const { exitcode, output } = await run(agent, waiting);
      if (exitcode === 0) return cloudInitEvent(output);
      const mayCome = exitcode === absent && tries < maxAbsentTries;
      if (exitcode !== unfinished && !mayCome) return undefined;
    } catch (error) {
      if (isRefused(error)) return undefined;
    }
    // After the line on the console it is a matter of seconds.
    const either = { signal: AbortSignal.any([waiting.signal, woken.signal]) };
    await pauseAfter(woken.signal.aborted ? 0 : tries, woken.signal.aborted ? waiting : either);
    if (waiting.signal.aborted) return undefined;
  }
  return undefined;
}

async function run(
  agent: AgentLine,
  waiting: Waiting,
): Promise<{ readonly exitcode: number | undefined; readonly output: string }> {
  const { pid } = await ask(agent, 'guest-exec', program, waiting);
  for (let tries = 0; ; tries += 1) {
    const status = await ask(agent, 'guest-exec-status', { pid }, waiting);
    if (status.exited) {
      const output = Buffer.from(status['out-data'] ?? '', 'base64').toString('utf8');
      return { exitcode: status.exitcode, output };
    }
    if (!(await pauseAfter(tries, waiting))) waiting.signal.throwIfAborted();
  }
}

async function ask<C extends keyof AgentCommands>(
  agent: AgentLine,
  command: C,
  parameters: AgentCommands[C]['arguments'],
  waiting: Waiting,
): Promise<AgentCommands[C]['return']> {
  using limited = within(answerMs, waiting);
  return await agent.use((it) => it.execute(command, parameters, limited), {}, limited);
}

function pauseAfter(tries: number, waiting: Waiting): Promise<boolean> {
  return slept(pausesMs[Math.min(tries, pausesMs.length - 1)] ?? 0, waiting);
}

function isRefused(error: unknown): boolean {
  return error instanceof QmpError && error.code === 'command';
}
