import { type DiskSpec, primaryDisk, type VmSpec } from '#spec';

/** The one disk of a test's VM. */
export function diskOn(image: string, sizeMiB: number, thin = true): DiskSpec {
  return primaryDisk({ image, sizeBytes: sizeMiB * 1024 ** 2, thin });
}

/** The image that the VM boots from. */
export function imageOf({ disks }: Partial<Pick<VmSpec, 'disks'>>): string | undefined {
  const source = disks?.find(({ primary }) => primary)?.source;
  return source?.kind === 'image' ? source.image : undefined;
}
