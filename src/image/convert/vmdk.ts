import { type ForeignFile, type ForeignInspection, refused, sizeOf } from './foreign-file.ts';

// VMware's Virtual Disk Format 5.0; VMDK4Header and vmdk_open_vmdk4 in QEMU's block/vmdk.c.
const sectorBytes = 512;
const headerBytes = 79;
const maxDescriptorSectors = 2048;
/** QEMU looks for a parent in as many, whatever the header states. */
const readDescriptorSectors = 20;
const [minGrainSectors, maxGrainSectors] = [8, 4096];
const grainsInTable = 512;
/** Bytes of the directory of grain tables; QEMU's own limit. */
const maxDirectoryBytes = 512 * 1024 * 1024;
const directoryAtEnd = 0xffff_ffff_ffff_ffffn;
const noParent = 'ffffffff';
const subformats = ['monolithicsparse', 'streamoptimized'];

export async function inspectVmdk(file: ForeignFile): Promise<ForeignInspection> {
  const header = await file.read(0, sectorBytes);
  const mark = header.toString('latin1', 0, 4);
  if (mark !== 'KDMV') return refused(notSparse(mark));
  if (header.length < sectorBytes) return refused('its vmdk header is cut off');
  const virtualBytes = sizeOf(header.readBigUInt64LE(12)) * sectorBytes;
  // QEMU takes a header without a capacity for a list of other files.
  if (virtualBytes === 0) return refused('it states no size, which makes it a list of other files');
  const problems = headerProblems(header, file);
  problems.push(...(await descriptorProblems(header, file)));
  if (header.readBigUInt64LE(56) === directoryAtEnd) {
    problems.push(...(await footerProblems(header, file)));
  }
  return { virtualBytes, problems };
}

function notSparse(mark: string): string {
  if (mark === 'COWD') return 'it is an extent of an ESX server (COWD), not a whole disk';
  return 'it is a list of other files (a descriptor), not a disk in one file';
}

function headerProblems(header: Buffer, { fileBytes }: ForeignFile): string[] {
  const problems: string[] = [];
  const version = header.readUInt32LE(4);
  if (version < 1 || version > 3) problems.push(`its vmdk version is ${version}, not 1 to 3`);
  const capacity = sizeOf(header.readBigUInt64LE(12));
  const grain = sizeOf(header.readBigUInt64LE(20));
  if (!(grain >= minGrainSectors && grain <= maxGrainSectors)) {
    problems.push(`its grains of ${grain} sectors have an invalid size`);
  }
  if (header.readUInt32LE(44) !== grainsInTable) {
    problems.push(`its grain tables do not have ${grainsInTable} entries`);
  }
  const tables = Math.ceil(capacity / (grain * grainsInTable));
  if (!(tables * 4 <= maxDirectoryBytes)) problems.push('its virtual size is too large');
  const compression = header.readUInt16LE(77);
  if (compression > 1) problems.push(`its compression ${compression} is unknown`);
  const directory = header.readBigUInt64LE(56);
  if (
    directory !== directoryAtEnd &&
    !(sizeOf(directory) * sectorBytes + tables * 4 <= fileBytes)
  ) {
    problems.push('its grain directory lies outside the file');
  }
  return problems;
}

/** QEMU reads the header again at the end of a stream-optimised file, and believes that one. */
async function footerProblems(header: Buffer, file: ForeignFile): Promise<readonly string[]> {
  const footer = await file.read(Math.max(0, file.fileBytes - 2 * sectorBytes), sectorBytes);
  if (footer.length < headerBytes || footer.toString('latin1', 0, 4) !== 'KDMV') {
    return ['it is cut off: its footer is missing'];
  }
  const facts = [[4, 8] as const, [12, 56] as const];
  // All but the place of the directory, flags included.
  const same = facts.every(([from, to]) =>
    header.subarray(from, to).equals(footer.subarray(from, to)),
  );
  if (!same) return ['its header and its footer are different'];
  if (footer.readBigUInt64LE(56) === directoryAtEnd) return ['its footer names no grain directory'];
  return headerProblems(footer, file);
}

/** The description inside the file: a disk of one extent, which is this file. */
async function descriptorProblems(header: Buffer, file: ForeignFile): Promise<readonly string[]> {
  const offset = sizeOf(header.readBigUInt64LE(28));
  const sectors = sizeOf(header.readBigUInt64LE(36));
  if (!(offset > 0 && sectors > 0 && sectors <= maxDescriptorSectors)) {
    return ['it has no description inside, as only parts of a disk have none'];
  }
  const length = Math.max(sectors, readDescriptorSectors) * sectorBytes;
  const bytes = await file.read(offset * sectorBytes, length);
  if (bytes.length < sectors * sectorBytes) return ['its description lies outside the file'];
  return textProblems(bytes.toString('latin1').split('\0', 1)[0] ?? '');
}

function textProblems(text: string): readonly string[] {
  const problems: string[] = [];
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const valuesOf = (key: string): readonly string[] =>
    lines
      .filter((line) => line.toLowerCase().startsWith(key))
      .map((line) => line.slice(key.length).trim())
      .filter((rest) => rest.startsWith('='))
      .map((rest) => rest.slice(1).replaceAll('"', '').trim().toLowerCase());
  const [type = 'none', ...otherTypes] = valuesOf('createtype');
  if (!subformats.includes(type) || otherTypes.length > 0) {
    problems.push(`its subformat is ${shown(type)}, not monolithicSparse or streamOptimized`);
  }
  const parents = valuesOf('parentcid');
  if (parents.some((parent) => parent !== noParent)) problems.push('it is based on another image');
  if (/parentfilenamehint/i.test(text)) {
    problems.push('it names another image that it is based on');
  }
  const extents = lines.filter((line) => /^(?:RW|RDONLY|NOACCESS)\s/i.test(line));
  const single = extents.length === 1 && /^RW\s+\d+\s+SPARSE\s+"[^"]*"$/i.test(extents[0] ?? '');
  if (!single) problems.push('it does not consist of one sparse extent');
  return problems;
}

const maxShown = 40;

/** For a message: the text is the file's. */
function shown(text: string): string {
  return JSON.stringify(text.slice(0, maxShown));
}
