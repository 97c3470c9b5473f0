export { isQuickToCheck } from './check-cost.ts';
export { CloudInitError } from './error.ts';
export { writeIso } from './iso9660.ts';
export { buildSeed, makeSeedImage, type SeedImage, seedNotes } from './seed.ts';
export { type SeedMount, type SeedNic, type SeedRequest, seedProblems } from './seed-request.ts';
export { checkUserData } from './user-data.ts';
export type { UserData } from './user-data-text.ts';
