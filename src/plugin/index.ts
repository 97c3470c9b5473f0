export type { PluginConfig } from './agent/config.ts';
export { main } from './serve/main.ts';
export type { Backend, CreateBackend } from './tasks/backend.ts';
