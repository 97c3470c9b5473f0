export type { SectorMode } from '../../scripts/guests/sector.ts';
export { sectorImage } from '../../scripts/guests/sector-image.ts';
