#!/usr/bin/env node
import { main } from '#plugin';
// The plugin as it is, on the backend of process-virtualizer.ts instead of QEMU.
import type { CreateBackend } from '../../src/plugin/tasks/backend.ts';
import { ProcessVirtualizer } from './process-virtualizer.ts';

const create: CreateBackend = async ({ dataDir }) => new ProcessVirtualizer(dataDir);
await main(process.argv.slice(2), { env: process.env, argv0: process.argv0 }, create);
