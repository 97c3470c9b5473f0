export type { AgentCommands } from './agent-commands.ts';
export { QmpClient } from './client.ts';
export type { BlockNode } from './commands.ts';
export { QmpError } from './error.ts';
export { passFile, removeForeignFiles } from './file-sets.ts';
export { GuestAgent } from './guest-agent.ts';
export { endOf, type JournalEnd, parseJournal } from './journal.ts';
export { figure, type QmpEvent } from './message.ts';
