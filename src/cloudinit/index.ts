export { CloudInitError, type CloudInitErrorCode } from './error.ts';
export { writeIso } from './iso9660.ts';
export { buildSeed, seedNotes } from './seed.ts';
export type { SeedMount, SeedNic, SeedRequest } from './seed-request.ts';
export { checkUserData } from './user-data.ts';
