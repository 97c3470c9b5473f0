export { type Emulator, findEmulators } from './emulator.ts';
export { usableFirmware } from './firmware.ts';
export { probeKvmForVms, vmGid } from './kvm-access.ts';
