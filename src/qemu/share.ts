import { device, option, optionText, type Part } from './part.ts';

interface CommonShare {
  /** Counts a VM's shares from 0. */
  readonly index: number;
  /** Mount tag in the guest. */
  readonly tag: string;
}

/** A directory that a virtiofsd serves. File: `share<index>`, a connection to it. */
export function virtiofsShare({ index, tag }: CommonShare): Part {
  const id = `share${index}`;
  return {
    id,
    files: [{ role: id, as: 'fd' }],
    sharedMemory: true,
    options: (at) => [
      option('chardev', `socket,id=${id},fd=${at.fd(id)}`),
      device({ driver: 'vhost-user-fs-pci', chardev: id, tag, 'queue-size': 1024 }),
    ],
  };
}

/** A directory that QEMU itself serves over 9p, from a path that its user can reach. */
export function ninePShare({
  index,
  tag,
  path,
  readOnly,
}: CommonShare & { readonly path: string; readonly readOnly: boolean }): Part {
  const id = `share${index}`;
  const local = `local,id=${id},path=${optionText(path)},security_model=none,multidevs=remap`;
  return {
    id,
    files: [],
    hostFiles: true,
    options: () => [
      option('fsdev', `${local}${readOnly ? ',readonly=on' : ''}`),
      device({ driver: 'virtio-9p-pci', fsdev: id, mount_tag: tag }),
    ],
  };
}
