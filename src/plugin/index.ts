export { main } from './serve/main.ts';
