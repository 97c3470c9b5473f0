import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { execChannel, execPortOf, execSlots, execStreams } from '#qemu';
import { QmpClient } from '#qmp';
import { AgentCommands } from '../../src/vm/guest/agent/agent-commands.ts';
import { AgentLine } from '../../src/vm/guest/agent/agent-line.ts';
import { QmpServer } from './qmp-server.ts';
import { answerSync, listen } from './scripted-agent.ts';
import { tmpDir } from './tmp.ts';
import { soon } from './vm.ts';

const quiet = (): void => {};
const log = { trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet };

/** A request to the agent: a command of it, and what the driver asks it to run. */
export interface AgentRequest {
  readonly execute: string;
  readonly script: string;
}

export interface ScriptedGuest {
  readonly commands: AgentCommands;
  /** Those of the plugin process that comes after this one. */
  next(): AgentCommands;
  /** Directory of the files of commands that could not be ended. */
  readonly commandsDir: string;
  /** What the agent was asked for, in order; pings aside. */
  readonly asked: readonly AgentRequest[];
  /** Ids of the ports that are plugged in. */
  readonly ports: ReadonlySet<string>;
}

/** The answers of an agent that does all that it is asked for. */
export function obedient({ execute }: AgentRequest): string | undefined {
  if (execute === 'guest-exec') return '{"return": {"pid": 7}}';
  if (execute === 'guest-exec-status') return '{"return": {"exited": true, "exitcode": 0}}';
  return '{"return": {}}';
}

/**
 * The commands of a guest behind a QEMU and an agent that are scripted. Each command that the agent accepts begins, unless
 * stated, and does nothing more.
 */
export async function scriptedGuest(
  t: TestContext,
  answer: (request: AgentRequest) => string | undefined,
  {
    alone = true,
    begins = () => true,
    connected = () => true,
    early,
  }: {
    readonly alone?: boolean;
    readonly begins?: (request: AgentRequest) => boolean;
    /** Whether there is a connection to QEMU. */
    readonly connected?: () => boolean;
    /** Each command ends with 127 and this as its stderr, which arrives before the report that the command has begun. */
    readonly early?: string;
  } = {},
): Promise<ScriptedGuest> {
  const asked: AgentRequest[] = [];
  const ports = new Set<string>();
  const dir = tmpDir(t);
  const commandsDir = join(dir, 'commands');
  const outputs = new Map<string, Socket>();
  for (const slot of Array.from({ length: execSlots }, (_, index) => index)) {
    for (const stream of execStreams) {
      const name = execChannel(slot, stream);
      const server = createServer((socket) => {
        socket.on('error', quiet).resume();
        outputs.set(name, socket);
      });
      await listening(t, server, join(dir, name));
    }
  }
  const begin = (id: string): void => {
    const port = execPortOf(id);
    if (port === undefined) return;
    const socket = outputs.get(execChannel(port.slot, port.stream));
    const end = early === undefined ? '' : `\x1e${port.session}:127;`;
    if (port.stream === 'err') socket?.write(`${early ?? ''}${end}`);
    if (port.stream !== 'out') return;
    const write = (): unknown => socket?.write(`\x1e${port.session}@0;${end}`);
    if (early === undefined) write();
    else setTimeout(write, 50);
  };
  const path = await listen(t, (line, socket) => {
    if (answerSync(line, socket)) return;
    const { execute, arguments: { env = [] } = {} } = JSON.parse(line);
    const request = { execute, script: env.join('\n') };
    if (execute !== 'guest-ping') asked.push(request);
    const text = answer(request);
    if (text === undefined) return;
    socket.write(`${text}\n`);
    if (execute !== 'guest-exec' || !text.includes('pid') || !begins(request)) return;
    for (const id of ports) begin(id);
  });
  const qmp = await monitor(t, ports);
  const agent = new AgentLine(path);
  t.after(async () => {
    for (const socket of outputs.values()) socket.destroy();
    await agent[Symbol.asyncDispose]();
  });
  const options = {
    agent,
    dir,
    commandsDir,
    qmp: () => (connected() ? qmp : undefined),
    reserved: [],
    user: undefined,
    alone,
    log,
  };
  const next = (): AgentCommands => new AgentCommands(options);
  return { commands: next(), next, commandsDir, asked, ports };
}

async function monitor(t: TestContext, ports: Set<string>): Promise<QmpClient> {
  const server = await QmpServer.start({
    script({ execute, arguments: { id }, id: number }, peer) {
      if (execute === 'query-chardev') {
        const closed = { label: execChannel(0, 'in'), filename: '', 'frontend-open': false };
        const agent = { label: 'agent', filename: '', 'frontend-open': true };
        peer.answer(number, [closed, agent]);
      } else if (execute === 'qom-list') {
        const named = [...ports].map((name) => ({ name, type: 'child<virtserialport>' }));
        peer.answer(number, named);
      } else if (execute === 'device_add' && !isTaken(ports, String(id))) {
        ports.add(String(id));
        peer.answer(number);
      } else if (execute === 'device_del' && ports.delete(String(id))) {
        peer.answer(number);
        peer.event('DEVICE_DELETED', { device: id, path: '' });
      } else peer.refuse(number, 'DeviceNotFound', 'no such device');
    },
  });
  const client = await QmpClient.connect(server.path, soon());
  t.after(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return client;
}

/** Whether the socket of a port has a guest's end already. */
function isTaken(ports: ReadonlySet<string>, id: string): boolean {
  const wanted = execPortOf(id);
  return [...ports]
    .map(execPortOf)
    .some((port) => port?.slot === wanted?.slot && port?.stream === wanted?.stream);
}

async function listening(t: TestContext, server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => server.close());
}
