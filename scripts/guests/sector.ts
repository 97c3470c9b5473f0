/**
 * The one-sector guest: the machine code of sector.S with a mode byte, as a raw or a qcow2 disk.
 * The bytes are kept here so that neither tests nor demo need an assembler; test/guests/sector.test.ts compares
 * them with the source.
 */

/**
 * 0 obeys the power button; 1 ignores it; after two seconds 2 powers off, 3 resets, 5 triple-faults and
 * 6 reports a panic at port 0x505 (`-device pvpanic`); 4 floods the console.
 */
export type SectorMode = 0 | 1 | 2 | 3 | 4 | 5 | 6;

const MODE_OFFSET = 509;

// The firmware does not boot from a disk of 512 bytes.
const DISK_BYTES = 1024 * 1024;

// Everything but the zeros behind it, the mode and the boot signature.
const code = `
6gV8AAAxwI7YjtC8AHz8vgB9rYXAdAm2A4jCiODu6/L7vhZ96K0AgD79fQF0CLoCBu0NAAHvgD79fQR1CL49feiRAOvx9P8G
e326/QPsqAF0B7r4A+zu6/GAPv19AXQRugAG7fbEAXQIviB96GUA6zmhe32ZuRIA9/GF0nW4vht96FAAg/gCcq2g/X08AnQa
PAN0JjwFdDA8BnWavjd96DIAugUFsAHu6w2+J33oJAC6BAa4ACDv9Ov9vit96BQAuvkMsAbu6+++MX3oBgAPAR59fcxQVr4M
fegMAF7oCAC+E33oAgBYw6yEwHQSiMS6/QPsqCB0+7r4A4jg7uvpw/uA+AH5APsD+scAAEdVRVNULQANCgBCT09UAFRJQ0sA
QlVUVE9OAE9GRgBSRVNFVABGQVVMVABQQU5JQwBDSEFUIDAxMjM0NTY3ODlhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ekFC
Q0RFRkdISUpLTE1OT1BRUlNU
`;

/** The 512 bytes with the mode set. */
export function bootSector(mode: SectorMode): Buffer {
  const sector = Buffer.alloc(512);
  Buffer.from(code.replaceAll('\n', ''), 'base64').copy(sector);
  sector[MODE_OFFSET] = mode;
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** A 1 MiB raw disk. */
export function sectorRaw(mode: SectorMode): Buffer {
  return Buffer.concat([bootSector(mode)], DISK_BYTES);
}

/** The same disk as qcow2 version 3, 64 KiB clusters, one of them allocated. */
export function sectorQcow2(mode: SectorMode): Buffer {
  const cluster = 0x10000;
  const at = { refcountTable: 1, refcountBlock: 2, l1: 3, l2: 4, data: 5 };
  const file = Buffer.alloc(6 * cluster);
  const copied = 1n << 63n; // QCOW_OFLAG_COPIED: refcount is exactly one
  file.write('QFI\xfb', 0, 'latin1');
  file.writeUInt32BE(3, 4);
  file.writeUInt32BE(16, 20); // cluster_bits
  file.writeBigUInt64BE(BigInt(DISK_BYTES), 24);
  file.writeUInt32BE(1, 36); // l1_size
  file.writeBigUInt64BE(BigInt(at.l1 * cluster), 40);
  file.writeBigUInt64BE(BigInt(at.refcountTable * cluster), 48);
  file.writeUInt32BE(1, 56); // refcount_table_clusters
  file.writeUInt32BE(4, 96); // refcount_order: 16 bits
  file.writeUInt32BE(104, 100); // header_length
  file.writeBigUInt64BE(BigInt(at.refcountBlock * cluster), at.refcountTable * cluster);
  for (let index = 0; index < 6; index++) {
    file.writeUInt16BE(1, at.refcountBlock * cluster + 2 * index);
  }
  file.writeBigUInt64BE(BigInt(at.l2 * cluster) | copied, at.l1 * cluster);
  file.writeBigUInt64BE(BigInt(at.data * cluster) | copied, at.l2 * cluster);
  bootSector(mode).copy(file, at.data * cluster);
  return file;
}
