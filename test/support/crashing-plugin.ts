// The plugin with a bug: soon after the handshake something throws where nobody catches.

import { main } from '#plugin';
import type { CreateBackend } from '../../src/plugin/tasks/backend.ts';
import { ProcessVirtualizer } from './process-virtualizer.ts';

const create: CreateBackend = async ({ dataDir }) => new ProcessVirtualizer(dataDir);
await main(process.argv.slice(2), { env: process.env, argv0: process.argv0 }, create);
setTimeout(() => {
  const bug = new Error('a bug of the test');
  if (process.env.CRASH === 'throw') throw bug;
  void Promise.reject(bug);
}, 100);
