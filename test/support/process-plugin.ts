#!/usr/bin/env node
// The plugin as it is, on the backend of process-virtualizer.ts instead of QEMU.
import { type CreateBackend, main } from '#plugin';
import { ProcessVirtualizer } from './process-virtualizer.ts';

const create: CreateBackend = async () => new ProcessVirtualizer();
await main(process.argv.slice(2), process.env, create);
