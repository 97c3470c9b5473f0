import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A boot sector that finds the watchdog on PCI bus 0, starts it with its fast clock (1 s and 1 s), and hangs. */
const program: readonly (readonly [code: string, assembly: string])[] = [
  ['31db', 'xor %bx, %bx'],
  ['66b800000080', 'next: movl $0x80000000, %eax  # configuration address: bus 0, device %bx'],
  ['660fb7cb', 'movzwl %bx, %ecx'],
  ['66c1e10b', 'shl $11, %ecx'],
  ['6609c8', 'or %ecx, %eax'],
  ['baf80c', 'mov $0xcf8, %dx'],
  ['66ef', 'out %eax, %dx'],
  ['6689c6', 'mov %eax, %esi'],
  ['bafc0c', 'mov $0xcfc, %dx'],
  ['66ed', 'in %dx, %eax'],
  ['663d8680ab25', 'cmp $0x25ab8086, %eax  # Intel 6300ESB'],
  ['7408', 'je found'],
  ['43', 'inc %bx'],
  ['83fb20', 'cmp $32, %bx'],
  ['72d4', 'jb next'],
  ['eb21', 'jmp stay'],
  ['67668d4660', 'found: lea 0x60(%esi), %eax  # its configuration register: 1 MHz'],
  ['baf80c', 'mov $0xcf8, %dx'],
  ['66ef', 'out %eax, %dx'],
  ['bafc0c', 'mov $0xcfc, %dx'],
  ['b80400', 'mov $4, %ax'],
  ['ef', 'out %ax, %dx'],
  ['67668d4668', 'lea 0x68(%esi), %eax  # its lock register: enabled'],
  ['baf80c', 'mov $0xcf8, %dx'],
  ['66ef', 'out %eax, %dx'],
  ['bafc0c', 'mov $0xcfc, %dx'],
  ['b002', 'mov $2, %al'],
  ['ee', 'out %al, %dx'],
  ['f4', 'stay: hlt'],
  ['ebfd', 'jmp stay'],
];

/** Writes the guest as a raw disk of 1 MiB into the directory; its path. */
export function watchdogGuest(dir: string): string {
  const disk = Buffer.alloc(1024 * 1024);
  Buffer.from(program.map(([code]) => code).join(''), 'hex').copy(disk);
  disk.writeUInt16LE(0xaa55, 510);
  const path = join(dir, 'watchdog.img');
  writeFileSync(path, disk);
  return path;
}
