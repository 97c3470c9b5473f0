import { SECTOR } from './records.ts';

/** The disk of QEMU's vvfat: 504 MiB in sectors of 512 bytes, with one partition of FAT16. */
const cylinders = 1024;
const heads = 16;
const sectorsPerTrack = 63;
const partitionSector = sectorsPerTrack;
const diskSectors = cylinders * heads * sectorsPerTrack;
const partitionSectors = diskSectors - partitionSector;

const sectorsPerCluster = 16;
const fatSectors = 252;
const fats = 2;
const reservedSectors = 1;

export const diskBytes = diskSectors * SECTOR;
export const clusterBytes = sectorsPerCluster * SECTOR;
const fatBytes = fatSectors * SECTOR;
/** The first two numbers have other meanings. */
export const firstCluster = 2;
export const endOfChain = 0xffff;
const media = 0xf8;

/** Where the parts of a volume are on its disk, in bytes. */
export interface Places {
  readonly boot: number;
  readonly fats: readonly number[];
  readonly root: number;
  readonly firstCluster: number;
  readonly clusters: number;
}

/** The places of a volume whose root has room for that many records, a multiple of 16. */
export function placesOf(rootRecords: number): Places {
  const fat = (index: number): number => reservedSectors + index * fatSectors;
  const root = fat(fats);
  const data = root + (rootRecords * 32) / SECTOR;
  const bytes = (sector: number): number => (partitionSector + sector) * SECTOR;
  return {
    boot: bytes(0),
    fats: [bytes(fat(0)), bytes(fat(1))],
    root: bytes(root),
    firstCluster: bytes(data),
    clusters: Math.floor((partitionSectors - data) / sectorsPerCluster),
  };
}

/** The table of clusters with its two first entries. */
export function emptyFat(): Buffer {
  const fat = Buffer.alloc(fatBytes);
  fat.writeUInt16LE(0xff00 | media, 0);
  fat.writeUInt16LE(endOfChain, 2);
  return fat;
}

/** The disk's first sector: one partition. Cylinder, head and sector of its ends are those of the whole disk. */
export function partitionTable(): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector.writeUInt32LE(0xbe1afdfa, 440);
  const entry = sector.subarray(446);
  entry.set([0x80, 1, 1, 0], 0);
  // 0x06: FAT16 of 32 MiB or more.
  entry.set([0x06, heads - 1, 0xc0 | sectorsPerTrack, 0xff], 4);
  entry.writeUInt32LE(partitionSector, 8);
  entry.writeUInt32LE(partitionSectors, 12);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

export function bootSector(label: string, rootRecords: number): Buffer {
  const sector = Buffer.alloc(SECTOR);
  sector.set([0xeb, 0x3e, 0x90], 0);
  sector.write('MSWIN4.1', 3, 'latin1');
  sector.writeUInt16LE(SECTOR, 11);
  sector[13] = sectorsPerCluster;
  sector.writeUInt16LE(reservedSectors, 14);
  sector[16] = fats;
  sector.writeUInt16LE(rootRecords, 17);
  sector[21] = media;
  sector.writeUInt16LE(fatSectors, 22);
  sector.writeUInt16LE(sectorsPerTrack, 24);
  sector.writeUInt16LE(heads, 26);
  sector.writeUInt32LE(partitionSector, 28);
  sector.writeUInt32LE(partitionSectors, 32);
  sector[36] = 0x80;
  sector[38] = 0x29;
  sector.writeUInt32LE(0xfabe1afd, 39);
  sector.write(label.padEnd(11), 43, 'latin1');
  sector.write('FAT16   ', 54, 'latin1');
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}
