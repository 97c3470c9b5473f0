/** The size that a qcow2 header states, and every reason in it to refuse the image; each problem is a clause. */
export interface Qcow2Inspection {
  /** 0 where the header ends before it. */
  readonly virtualBytes: number;
  readonly problems: readonly string[];
}

/** Marks of header extensions (docs/interop/qcow2.txt in QEMU). */
export const extension = {
  end: 0,
  backingFormat: 0xe2792aca,
  dataFile: 0x44415441,
  encryption: 0x0537be77,
} as const;

interface Header {
  readonly view: DataView;
  readonly fileBytes: number;
  readonly version: number;
  readonly clusterBytes: number;
  readonly virtualBytes: bigint;
  readonly headerBytes: number;
  readonly incompatible: bigint;
}

const magic = 0x514649fb;
const bytesOfVersion2 = 72;
const bytesOfVersion3 = 104;
const feature = { dirty: 1n, corrupt: 2n, dataFile: 4n, compression: 8n, extendedL2: 16n } as const;
const knownFeatures = 31n;

// QEMU's own limits (block/qcow2.h).
const maxL1Bytes = 32 * 1024 * 1024;
const maxRefcountTableBytes = 8 * 1024 * 1024;
/** An L1 table may be larger than its disk needs, after a shrink; up to this many entries are accepted. */
const spareL1Entries = 65536;

/**
 * Checks the first bytes of a qcow2 file (4 KiB are enough) before any QEMU program reads them. What could make QEMU open
 * another file, allocate oversized tables or misread the disk is a problem; so is everything unknown.
 */
export function inspectQcow2(head: Uint8Array, fileBytes: number): Qcow2Inspection {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (view.byteLength < bytesOfVersion2 || view.getUint32(0) !== magic) {
    return { virtualBytes: 0, problems: ['it has no complete qcow2 header'] };
  }
  const version = view.getUint32(4);
  if (version !== 2 && version !== 3) {
    return { virtualBytes: 0, problems: [`its qcow version is ${version}, not 2 or 3`] };
  }
  const clusterBits = view.getUint32(20);
  if (clusterBits < 9 || clusterBits > 21) {
    return {
      virtualBytes: 0,
      problems: [`its clusters of 2^${clusterBits} bytes are not 2^9 to 2^21`],
    };
  }
  if (version === 3 && view.byteLength < bytesOfVersion3) {
    return { virtualBytes: 0, problems: ['its version 3 header is cut off'] };
  }
  const header: Header = {
    view,
    fileBytes,
    version,
    clusterBytes: 2 ** clusterBits,
    virtualBytes: view.getBigUint64(24),
    headerBytes: version === 2 ? bytesOfVersion2 : view.getUint32(100),
    incompatible: version === 2 ? 0n : view.getBigUint64(72),
  };
  return {
    virtualBytes: Number(header.virtualBytes),
    problems: [
      ...referenceProblems(header),
      ...featureProblems(header),
      ...headerProblems(header),
      ...tableProblems(header),
    ],
  };
}

function referenceProblems({ view }: Header): readonly string[] {
  const problems: string[] = [];
  if (view.getBigUint64(8) !== 0n || view.getUint32(16) !== 0) {
    problems.push('it names a backing file');
  }
  if (view.getUint32(32) !== 0) problems.push('it is encrypted');
  if (view.getUint32(60) !== 0) problems.push('it holds internal snapshots');
  return problems;
}

function featureProblems({
  incompatible,
  clusterBytes,
  view,
  headerBytes,
}: Header): readonly string[] {
  const problems: string[] = [];
  if (incompatible & feature.corrupt) problems.push('it is marked corrupt');
  if (incompatible & feature.dataFile) problems.push('it keeps its data in another file');
  const unknown = incompatible & ~knownFeatures;
  if (unknown !== 0n) problems.push(`it needs unknown features (0x${unknown.toString(16)})`);
  if (incompatible & feature.extendedL2 && clusterBytes < 2 ** 14) {
    problems.push('its clusters are too small for the extended L2 entries it claims');
  }
  if (incompatible & feature.compression) {
    const type = headerBytes > 104 && view.byteLength > 104 ? view.getUint8(104) : 0;
    if (type !== 1) problems.push(`its compression type ${type} does not match its features`);
  }
  return problems;
}

function headerProblems(header: Header): readonly string[] {
  const { version, view, headerBytes, clusterBytes } = header;
  if (version === 3) {
    if (headerBytes < bytesOfVersion3 || headerBytes % 8 !== 0 || headerBytes > clusterBytes) {
      return [`its header length of ${headerBytes} bytes is invalid`];
    }
    const order = view.getUint32(96);
    if (order > 6) return [`its refcounts of 2^${order} bits are wider than 64`];
  }
  return extensionProblems(header);
}

function extensionProblems({
  view,
  headerBytes,
  clusterBytes,
  fileBytes,
}: Header): readonly string[] {
  // Extensions end at their end mark or with the first cluster.
  const end = Math.min(clusterBytes, fileBytes);
  let at = headerBytes;
  while (at < end) {
    if (at + 8 > view.byteLength) return ['its header extensions do not end where they should'];
    const kind = view.getUint32(at);
    const bytes = view.getUint32(at + 4);
    if (kind === extension.end) return [];
    if (kind === extension.backingFormat) return ['it names the format of a backing file'];
    if (kind === extension.dataFile) return ['it names an external data file'];
    if (kind === extension.encryption) return ['it carries an encryption header'];
    at += 8 + Math.ceil(bytes / 8) * 8;
    if (at > end) return ['a header extension is longer than the header'];
  }
  return [];
}

function tableProblems(header: Header): readonly string[] {
  const { view, clusterBytes, virtualBytes, incompatible } = header;
  if (virtualBytes === 0n) return ['its virtual size is 0'];
  if (virtualBytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    return [`its virtual size of ${virtualBytes} bytes is too large`];
  }
  const l1Entries = view.getUint32(36);
  const entryBytes = incompatible & feature.extendedL2 ? 16 : 8;
  const needed = Math.ceil(Number(virtualBytes) / ((clusterBytes / entryBytes) * clusterBytes));
  const refcountBytes = view.getUint32(56) * clusterBytes;
  const problems: string[] = [];
  if (l1Entries < needed) problems.push(`its L1 table of ${l1Entries} entries is too small`);
  if (l1Entries > Math.max(2 * needed, spareL1Entries) || l1Entries * 8 > maxL1Bytes) {
    problems.push(`its L1 table of ${l1Entries} entries is too large`);
  }
  if (refcountBytes === 0 || refcountBytes > maxRefcountTableBytes) {
    problems.push(`its refcount table of ${refcountBytes} bytes has an invalid size`);
  }
  return [
    ...problems,
    ...placeProblems(header, 'L1 table', view.getBigUint64(40), l1Entries * 8),
    ...placeProblems(header, 'refcount table', view.getBigUint64(48), refcountBytes),
  ];
}

function placeProblems(
  { clusterBytes, fileBytes }: Header,
  table: string,
  offset: bigint,
  bytes: number,
): readonly string[] {
  if (offset === 0n || offset % BigInt(clusterBytes) !== 0n) {
    return [`its ${table} does not begin at a cluster`];
  }
  return offset + BigInt(bytes) > BigInt(fileBytes) ? [`its ${table} lies outside the file`] : [];
}

/** Maximum length that QEMU gives a qcow2 file with so much data: its tables are in it, and some are kept in reserve. */
export function maxQcow2Bytes(dataBytes: number): number {
  return dataBytes + maxQcow2TableBytes(dataBytes) + 64 * 1024 ** 2;
}

/** What the tables for so much data take: up to 16 bytes for each cluster, which has at least 512. */
export function maxQcow2TableBytes(dataBytes: number): number {
  return Math.ceil(dataBytes / 16);
}
