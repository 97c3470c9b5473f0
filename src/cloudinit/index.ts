export { checkSeedText, isQuickToCheck, type SeedText } from './check-text.ts';
export { ignitionText } from './ignition.ts';
export { writeIso } from './iso9660.ts';
export { makeSeedImage, type SeedImage } from './seed.ts';
export {
  type SeedMount,
  type SeedNic,
  type SeedRequest,
  type SeedSsh,
  seedProblems,
} from './seed-request.ts';
