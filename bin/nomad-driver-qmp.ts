#!/usr/bin/env node
import { main } from '#plugin';

await main(process.argv.slice(2), process.env);
