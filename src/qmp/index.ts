export { QmpClient, type Waiting } from './client.ts';
export type { BlockNode, BlockStatistics, Commands, RunState } from './commands.ts';
export { QmpError, type QmpErrorCode } from './error.ts';
export { GuestAgent } from './guest-agent.ts';
export { endOf, type JournalEnd, parseJournal } from './journal.ts';
export { figure, type QemuVersion, type QmpEvent } from './message.ts';
