const sectorBytes = 512;
const diskBytes = 1 << 20; // the firmware does not boot from a disk of a single sector

/** What the guest prints on COM1 when everything worked. */
export const guestMessage = 'kvm-guest-ran';

/** Machine code beside its assembly; a test assembles it again. */
export type Program = readonly (readonly [code: string, assembly: string])[];

/**
 * The guest of the KVM probe for x86-64 (AT&T syntax), a boot sector. Like a kernel it switches from real mode to
 * paged 64-bit code, uses the features that nested virtualization without hardware help is known to fail at, prints
 * its message and ends the VM.
 */
export const x86Program: Program = [
  ['', '.code16'],
  ['fa', 'cli'],
  // segments and stack: the firmware leaves them undefined.
  ['31c0', 'xor %ax, %ax'],
  ['8ed8', 'mov %ax, %ds'],
  ['8ec0', 'mov %ax, %es'],
  ['8ed0', 'mov %ax, %ss'],
  ['bc007c', 'mov $0x7c00, %sp'],
  // three empty pages for the page tables.
  ['bf0010', 'mov $0x1000, %di'],
  ['b9000c', 'mov $0xc00, %cx'],
  ['6631c0', 'xor %eax, %eax'],
  ['66f3ab', 'rep stosl'],
  // one table entry each, the last one maps the first 2 MiB.
  ['c70600100320', 'movw $0x2003, 0x1000'],
  ['c70600200330', 'movw $0x3003, 0x2000'],
  ['c70600308300', 'movw $0x0083, 0x3000'],
  // CR4: PAE, OSFXSR, OSXMMEXCPT.
  ['66b820060000', 'mov $0x620, %eax'],
  ['0f22e0', 'mov %eax, %cr4'],
  ['66b800100000', 'mov $0x1000, %eax'],
  ['0f22d8', 'mov %eax, %cr3'],
  // EFER: long mode.
  ['66b9800000c0', 'mov $0xc0000080, %ecx'],
  ['0f32', 'rdmsr'],
  ['0d0001', 'or $0x100, %ax'],
  ['0f30', 'wrmsr'],
  ['660f0116107d', 'lgdtl gdtr'],
  // CR0: paging and protection, and with them 64-bit code.
  ['66b811000080', 'mov $0x80000011, %eax'],
  ['0f22c0', 'mov %eax, %cr0'],
  ['ea5d7c0800', 'ljmp $8, $long'],
  ['', '.code64'],
  ['', 'long:'],
  ['31c0', 'xor %eax, %eax'],
  ['8ed8', 'mov %eax, %ds'],
  ['8ec0', 'mov %eax, %es'],
  ['8ed0', 'mov %eax, %ss'],
  ['bc007c0000', 'mov $0x7c00, %esp'],
  // vector 3 of the interrupt table.
  ['c7042530400000d17c0800', 'movl $0x80000 + trap, 0x4030'],
  ['c7042534400000008e0000', 'movl $0x8e00, 0x4034'],
  ['0f011c25167d0000', 'lidt idtr'],
  ['b801000000', 'mov $1, %eax'],
  ['0fa2', 'cpuid'],
  // cmpxchg16b, if CPUID reports it: page-table and allocator code of kernels uses it.
  ['0fbae10d', 'bt $13, %ecx'],
  ['7320', 'jnc 1f'],
  ['31c0', 'xor %eax, %eax'],
  ['31d2', 'xor %edx, %edx'],
  ['bb01000000', 'mov $1, %ebx'],
  ['31c9', 'xor %ecx, %ecx'],
  ['f0480fc70c2500500000', 'lock cmpxchg16b 0x5000'],
  ['48833c250050000001', 'cmpq $1, 0x5000'],
  ['7513', 'jne stop'],
  ['', '1:'],
  // the FPU state, as a kernel saves and restores it at every switch.
  ['dbe3', 'fninit'],
  ['0fae042500600000', 'fxsave 0x6000'],
  ['0fae0c2500600000', 'fxrstor 0x6000'],
  // a trap and a way into its handler.
  ['cc', 'int3'],
  ['', 'stop:'],
  // a trap without a table: triple fault, and -no-reboot ends QEMU.
  ['0f011c25207d0000', 'lidt none'],
  ['cc', 'int3'],
  ['', 'trap:'],
  ['beeb7c0000', 'mov $message, %esi'],
  ['', '2:'],
  // COM1: wait until it accepts a byte, then send the next one of the message.
  ['66bafd03', 'mov $0x3fd, %dx'],
  ['', '3:'],
  ['ec', 'in %dx, %al'],
  ['a820', 'test $0x20, %al'],
  ['74fb', 'jz 3b'],
  ['66baf803', 'mov $0x3f8, %dx'],
  ['ac', 'lodsb'],
  ['ee', 'out %al, %dx'],
  ['84c0', 'test %al, %al'],
  ['75ed', 'jnz 2b'],
  ['ebdd', 'jmp stop'],
  ['', 'message:'],
  ['0a6b766d2d67756573742d72616e0a00', '.asciz "\\nkvm-guest-ran\\n"'],
  ['0f1f440000', '.balign 8'],
  ['', 'gdt:'],
  ['0000000000000000', '.quad 0'],
  ['00000000009a2000', '.quad 0x00209a0000000000'],
  ['', 'gdtr:'],
  ['0f00', '.word 15'],
  ['007d0000', '.long gdt'],
  ['', 'idtr:'],
  ['3f00', '.word 0x3f'],
  ['0040000000000000', '.quad 0x4000'],
  ['', 'none:'],
  ['0000', '.word 0'],
  ['0000000000000000', '.quad 0'],
];

/**
 * The same for arm64, where it is the first code that the CPU runs: prints its message and powers off by the firmware
 * interface.
 */
export const armProgram: Program = [
  // The data register of the machine's PL011 UART.
  ['0120a1d2', 'movz x1, #0x0900, lsl #16'],
  ['42010010', 'adr x2, message'],
  ['', '1:'],
  ['40144038', 'ldrb w0, [x2], #1'],
  ['60000034', 'cbz w0, 2f'],
  ['200000b9', 'str w0, [x1]'],
  ['fdffff17', 'b 1b'],
  ['', '2:'],
  // PSCI SYSTEM_OFF.
  ['0080b0d2', 'movz x0, #0x8400, lsl #16'],
  ['000180f2', 'movk x0, #0x0008'],
  ['020000d4', 'hvc #0'],
  ['', '3:'],
  ['7f2003d5', 'wfi'],
  ['ffffff17', 'b 3b'],
  ['', 'message:'],
  ['0a6b766d2d67756573742d72616e0a00', '.asciz "\\nkvm-guest-ran\\n"'],
];

// Past the device tree that QEMU puts at the start of memory.
const armLoadAddress = 0x4020_0000;

export interface TestGuest {
  /** The content of the file that QEMU loads the guest from. */
  image(): Uint8Array;
  /** What follows the name of the machine type. */
  readonly machineOptions: string;
  /** QEMU's arguments that load the guest from the file with this descriptor. */
  arguments(fd: number): readonly string[];
}

/** The probe's guest for an architecture. */
export function testGuest(arch: 'x86_64' | 'aarch64'): TestGuest {
  return arch === 'x86_64' ? x86Guest : armGuest;
}

const x86Guest: TestGuest = {
  image: bootDisk,
  machineOptions: '',
  arguments: (fd) => [
    ...['-add-fd', `fd=${fd},set=1`],
    ...['-blockdev', 'driver=file,filename=/dev/fdset/1,node-name=file,locking=off'],
    ...['-blockdev', 'driver=raw,file=file,node-name=disk'],
    ...['-device', 'virtio-blk-pci,drive=disk'],
  ],
};

const armGuest: TestGuest = {
  image: () => assembled(armProgram),
  // The machine's default is version 2, which many CPUs do not support for guests.
  machineOptions: ',gic-version=max',
  arguments: (fd) => [
    '-device',
    `loader,file=/proc/self/fd/${fd},addr=${armLoadAddress},cpu-num=0,force-raw=on`,
  ],
};

/** A raw disk image whose boot sector is the guest. */
function bootDisk(): Uint8Array {
  const disk = Buffer.alloc(diskBytes);
  disk.set(assembled(x86Program));
  disk.writeUInt16LE(0xaa55, sectorBytes - 2); // the boot sector's signature
  return disk;
}

function assembled(program: Program): Buffer {
  return Buffer.from(program.map(([code]) => code).join(''), 'hex');
}
