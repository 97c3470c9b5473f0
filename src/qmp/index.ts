export type { AgentCommands } from './agent-commands.ts';
export { QmpClient } from './client.ts';
export { QmpError } from './error.ts';
export { GuestAgent } from './guest-agent.ts';
export { endOf, type JournalEnd, parseJournal } from './journal.ts';
export { figure, type QmpEvent } from './message.ts';
