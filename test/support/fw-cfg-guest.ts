/** fw-cfg-guest.S assembled, which test/guests/sector.test.ts compares. */
const code = `
6gV8AAAxwI7YjsCO0LwAfPy4GQDoawDobQDobQCIxehoAIjBUehfAOhfAIjH6FoAiMPoVQCIxFDoTwBZiOxQ6EUAvwCAuTgA6D8A
quL6WL8AgL6efLkWAPOmdBFZ4sW+tHy5DACs6CYA4vrrDegSAInZ6BUA6BcA4viwCugQAPTr/boQBe/D6AAAuhEF7MNQuv0D7Kgg
dPtYuvgD7sNvcHQvY29tLmNvcmVvcy9jb25maWcAbm8gc3VjaCBmaWxl
`;

/** A disk whose guest writes the fw_cfg file `opt/com.coreos/config` to the serial console. */
export function fwCfgDisk(): Buffer {
  const disk = Buffer.alloc(1024 * 1024);
  fwCfgCode().copy(disk);
  disk.writeUInt16LE(0xaa55, 510);
  return disk;
}

export function fwCfgCode(): Buffer {
  return Buffer.from(code.replaceAll('\n', ''), 'base64');
}
