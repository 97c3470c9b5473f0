import { CloudInitError } from './error.ts';
import {
  alternateName,
  directory,
  directoryRecord,
  extensionMarks,
  pathTable,
  posixAttributes,
  SECTOR,
  sectors,
  terminator,
  ucs2,
  volumeDescriptor,
} from './iso-record.ts';

// Joliet's limit, and short enough that a record never needs a continuation area.
const maxName = 64;
const maxLabel = 16;

// 16 sectors of system area, three descriptors, four path tables, then the two root folders and the files.
const at = { descriptors: 16, tables: 19, folders: 23 };

const folderMode = 0o040500;
const fileMode = 0o100400;
const self = Buffer.from([0]);
const parent = Buffer.from([1]);
const nothing = Buffer.alloc(0);

interface Extent {
  readonly name: string;
  /** The name that every reader supports: 8.3, upper case. */
  readonly shortName: string;
  readonly content: Uint8Array;
  readonly sector: number;
}

interface Place {
  readonly sector: number;
  readonly sectors: number;
}

/**
 * A disc image that holds these files in its root: ISO 9660 with Rock Ridge for Linux and Joliet for Windows, so that
 * names keep their case and dashes. The bytes depend on names, contents and label only, not on the map's order.
 * In the image files belong to root and only root reads them.
 *
 * Throws CloudInitError for a name that is not 1 to 64 of [A-Za-z0-9._-], for `.` and `..`, and for a label of
 * more than 16 characters.
 */
export function writeIso(
  files: ReadonlyMap<string, Uint8Array>,
  options: { readonly label: string },
): Uint8Array<ArrayBuffer> {
  assertNames([...files.keys()], options.label);
  // A record's length depends on names alone, so folders are measured before anything has a place.
  const measured = layOut(files, 0);
  const nowhere = { sector: 0, sectors: 0 };
  const rock = { sector: at.folders, sectors: sectors(rockFolder(measured, nowhere).length) };
  const joliet = {
    sector: rock.sector + rock.sectors,
    sectors: sectors(jolietFolder(measured, nowhere).length),
  };
  const extents = layOut(files, joliet.sector + joliet.sectors);
  const last = extents.at(-1);
  // At least one sector of data: the sector that empty files point to has to exist.
  const end = last === undefined ? joliet.sector + joliet.sectors : last.sector + lengthOf(last);
  const image = Buffer.alloc(end * SECTOR);
  const put = (sector: number, bytes: Uint8Array): void => image.set(bytes, sector * SECTOR);
  put(at.descriptors, descriptor(false, options.label, rock, end));
  put(at.descriptors + 1, descriptor(true, options.label, joliet, end));
  put(at.descriptors + 2, terminator());
  for (const [index, folder] of [rock, joliet].entries()) {
    put(at.tables + 2 * index, pathTable(folder.sector, 'little'));
    put(at.tables + 2 * index + 1, pathTable(folder.sector, 'big'));
  }
  put(rock.sector, rockFolder(extents, rock));
  put(joliet.sector, jolietFolder(extents, joliet));
  for (const extent of extents) put(extent.sector, extent.content);
  return image;
}

function assertNames(names: readonly string[], label: string): void {
  const wrong = names.filter(
    (name) => !/^(?!\.{1,2}$)[A-Za-z0-9._-]+$/.test(name) || name.length > maxName,
  );
  if (wrong.length > 0) {
    throw new CloudInitError(`not valid file names in a disc image: ${wrong.join(', ')}`);
  }
  if (!/^[\x20-\x7e]*$/.test(label) || label.length > maxLabel) {
    throw new CloudInitError(`not a valid label of a disc image: ${JSON.stringify(label)}`);
  }
}

function layOut(files: ReadonlyMap<string, Uint8Array>, from: number): Extent[] {
  const taken = new Set<string>();
  let sector = from;
  return [...files]
    .sort(([a], [b]) => order(a, b))
    .map(([name, content]) => {
      const extent = { name, shortName: shortName(name, taken), content, sector };
      sector += lengthOf(extent);
      return extent;
    });
}

const lengthOf = (extent: Pick<Extent, 'content'>): number =>
  Math.max(1, sectors(extent.content.length));

const order = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

/** `network-config` → `NETWORK_.;1`, and `NETWOR01.;1` when that is taken. */
function shortName(name: string, taken: Set<string>): string {
  const [stem = '', ...rest] = name
    .toUpperCase()
    .replace(/[^A-Z0-9.]/g, '_')
    .split('.');
  const extension = (rest.at(-1) ?? '').slice(0, 3);
  const base = [stem, ...rest.slice(0, -1)].join('_') || '_';
  let short = `${base.slice(0, 8)}.${extension};1`;
  for (let count = 1; taken.has(short); count++) {
    const suffix = String(count).padStart(2, '0');
    short = `${base.slice(0, 8 - suffix.length)}${suffix}.${extension};1`;
  }
  taken.add(short);
  return short;
}

/** The ISO 9660 root folder with Rock Ridge fields. Folder records must be in order of their identifiers. */
function rockFolder(extents: readonly Extent[], place: Place): Buffer {
  const own = { folder: true, sector: place.sector, bytes: place.sectors * SECTOR };
  const attributes = posixAttributes(folderMode, 2);
  const marks = Buffer.concat([extensionMarks(), attributes]);
  return directory([
    directoryRecord({ ...own, identifier: self, systemUse: marks }),
    directoryRecord({ ...own, identifier: parent, systemUse: attributes }),
    ...extents
      .toSorted((a, b) => order(a.shortName, b.shortName))
      .map((extent) =>
        directoryRecord({
          identifier: Buffer.from(extent.shortName, 'ascii'),
          folder: false,
          sector: extent.sector,
          bytes: extent.content.length,
          systemUse: Buffer.concat([posixAttributes(fileMode, 1), alternateName(extent.name)]),
        }),
      ),
  ]);
}

function jolietFolder(extents: readonly Extent[], place: Place): Buffer {
  const own = { folder: true, sector: place.sector, bytes: place.sectors * SECTOR };
  return directory([
    directoryRecord({ ...own, identifier: self, systemUse: nothing }),
    directoryRecord({ ...own, identifier: parent, systemUse: nothing }),
    ...extents.map((extent) =>
      directoryRecord({
        identifier: ucs2(extent.name),
        folder: false,
        sector: extent.sector,
        bytes: extent.content.length,
        systemUse: nothing,
      }),
    ),
  ]);
}

function descriptor(joliet: boolean, label: string, folder: Place, end: number): Buffer {
  const table = at.tables + (joliet ? 2 : 0);
  return volumeDescriptor({
    joliet,
    label,
    totalSectors: end,
    pathTableSectors: { little: table, big: table + 1 },
    rootSector: folder.sector,
    rootBytes: folder.sectors * SECTOR,
  });
}
