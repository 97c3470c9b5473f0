export type { Backend, CreateBackend } from './backend.ts';
export type { PluginConfig } from './config.ts';
export { main } from './main.ts';
