#!/usr/bin/env node
import { main } from '#plugin';

// Not awaited: the single executable is built as CommonJS, which has no top-level await.
void main(process.argv.slice(2), { env: process.env, argv0: process.argv0 });
