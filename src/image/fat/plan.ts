import { ImageError } from '../error.ts';
import { type FatName, fatNames } from './names.ts';
import {
  dotRecords,
  entryRecords,
  labelRecord,
  type RecordOf,
  recordBytes,
  recordCount,
} from './records.ts';
import {
  bootSector,
  clusterBytes,
  emptyFat,
  endOfChain,
  firstCluster,
  type Places,
  partitionTable,
  placesOf,
} from './volume.ts';

/** A file or folder, by its path inside the directory. */
export type FatEntry =
  | {
      readonly kind: 'file';
      readonly name: string;
      readonly path: string;
      readonly bytes: number;
      readonly modifiedMs: number;
    }
  | FatFolder;

export interface FatFolder {
  readonly kind: 'folder';
  readonly name: string;
  readonly path: string;
  readonly modifiedMs: number;
  readonly entries: readonly FatEntry[];
}

/** What is written where on a disk of zeros. */
export interface FatPlan {
  readonly records: readonly { readonly offset: number; readonly bytes: Uint8Array }[];
  readonly files: readonly {
    readonly path: string;
    readonly offset: number;
    readonly bytes: number;
  }[];
}

const usualRootRecords = 512;
/** Of the root, whose size is fixed and has 16 bits. */
const maxRootRecords = 65_520;

/** A disk with these files. Throws ImageError `refused` for names and sizes that FAT16 can't have. */
export function planFat(root: FatFolder, label: string): FatPlan {
  const rootRecords = roundUp(Math.max(usualRootRecords, 1 + countRecords(root)), 16);
  if (rootRecords > maxRootRecords) {
    throw new ImageError(
      'refused',
      `${root.path}: more files than the root of a FAT disk can have`,
    );
  }
  const places = placesOf(rootRecords);
  const disk = new Disk(places);
  const own: RecordOf = { kind: 'folder', cluster: 0, bytes: 0, modifiedMs: root.modifiedMs };
  disk.put(0, partitionTable());
  disk.put(places.boot, bootSector(label, rootRecords));
  disk.put(places.root, Buffer.concat([labelRecord(label), disk.place(root, own)]));
  for (const offset of places.fats) disk.put(offset, disk.fat);
  return { records: disk.records, files: disk.files };
}

function roundUp(count: number, step: number): number {
  return Math.ceil(count / step) * step;
}

function countRecords(folder: FatFolder): number {
  return namesOf(folder).reduce((count, name) => count + recordCount(name), 0);
}

/** Made once for each folder: they are counted before they are written. */
function namesOf(folder: FatFolder): readonly FatName[] {
  const { entries, path } = folder;
  const names =
    namesOfFolders.get(folder) ??
    fatNames(
      entries.map(({ name }) => name),
      path,
    );
  namesOfFolders.set(folder, names);
  return names;
}

const namesOfFolders = new WeakMap<FatFolder, readonly FatName[]>();

/** What has a place so far: clusters are given out one after the other, so each file is in one piece. */
class Disk {
  readonly fat = emptyFat();
  readonly records: { offset: number; bytes: Uint8Array }[] = [];
  readonly files: { path: string; offset: number; bytes: number }[] = [];
  readonly #places: Places;
  #next = firstCluster;

  constructor(places: Places) {
    this.#places = places;
  }

  put(offset: number, bytes: Uint8Array): void {
    this.records.push({ offset, bytes });
  }

  /** Gives all that is in the folder its place. Returns the folder's records. */
  place(folder: FatFolder, own: RecordOf): Buffer {
    const names = namesOf(folder);
    return Buffer.concat(
      folder.entries.map((entry, index) => {
        const name = names[index];
        if (name === undefined) throw new Error(`${entry.path} has no name`);
        const record = entry.kind === 'file' ? this.#file(entry) : this.#folder(entry, own);
        return entryRecords(name, record);
      }),
    );
  }

  #file({ kind, path, bytes, modifiedMs }: Extract<FatEntry, { kind: 'file' }>): RecordOf {
    // An empty file has no cluster.
    const cluster = bytes === 0 ? 0 : this.#take(bytes, path);
    if (bytes > 0) this.files.push({ path, offset: this.#offsetOf(cluster), bytes });
    return { kind, cluster, bytes, modifiedMs };
  }

  #folder(folder: FatFolder, parent: RecordOf): RecordOf {
    const { kind, path, modifiedMs } = folder;
    const cluster = this.#take((2 + countRecords(folder)) * recordBytes, path);
    const own = { kind, cluster, bytes: 0, modifiedMs };
    this.put(
      this.#offsetOf(cluster),
      Buffer.concat([dotRecords(own, parent), this.place(folder, own)]),
    );
    return own;
  }

  #take(bytes: number, path: string): number {
    const first = this.#next;
    const count = Math.ceil(bytes / clusterBytes);
    this.#next += count;
    if (this.#next > firstCluster + this.#places.clusters) {
      const maxMiB = Math.floor((this.#places.clusters * clusterBytes) / 1024 ** 2);
      const text = `${path} does not fit: a FAT disk of a directory has room for ${maxMiB} MiB`;
      throw new ImageError('refused', text);
    }
    for (let cluster = first; cluster < this.#next; cluster += 1) {
      const following = cluster + 1 === this.#next ? endOfChain : cluster + 1;
      this.fat.writeUInt16LE(following, cluster * 2);
    }
    return first;
  }

  #offsetOf(cluster: number): number {
    return this.#places.firstCluster + (cluster - firstCluster) * clusterBytes;
  }
}
