import { constants } from 'node:fs';
import { chmod, copyFile } from 'node:fs/promises';
import { openPath, reopen } from '#host';
import { copyImage, growRaw, imageHandler, type OpenImage } from '#image';
import type { Waiting } from '#spec';
import type { DiskPlan, VmPlan } from '../start/plan.ts';
import type { Descriptors } from './files.ts';

/** Makes the task's own disk and opens it, and its base, for QEMU. The base is only ever open for reading. */
export async function makeDisk(
  disk: DiskPlan,
  image: OpenImage,
  fds: Descriptors,
  waiting: Waiting,
): Promise<void> {
  const create = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL;
  const fd = fds.add('disk', openPath(disk.path, create, 0o600));
  if (disk.kind === 'overlay') {
    imageHandler.createThinCopy({ fd, base: image, virtualBytes: disk.virtualBytes });
    fds.add('base', reopen(image.fd, constants.O_RDONLY));
  } else {
    await copyImage(image, fd, waiting);
    if (disk.format === 'raw') growRaw(fd, disk.virtualBytes);
  }
  fds.add('disk-read', openPath(disk.path, constants.O_RDONLY | constants.O_NOFOLLOW));
}

/** Gives the VM firmware variables of its own and opens both parts of the firmware for QEMU. */
export async function makeFirmware({ firmware, paths }: VmPlan, fds: Descriptors): Promise<void> {
  if (firmware.kind === 'bios') return;
  await copyFile(firmware.varsTemplate, paths.firmwareVars);
  // It came with the template's mode.
  await chmod(paths.firmwareVars, 0o600);
  fds.add('firmware-code', openPath(firmware.codePath, constants.O_RDONLY));
  fds.add('firmware-vars', openPath(paths.firmwareVars, constants.O_RDWR | constants.O_NOFOLLOW));
}
