import type { Backend, CreateBackend } from './backend.ts';

/** The one backend there is, loaded when it is first needed: two of the three launches per agent start never do. */
export const createQemu: CreateBackend = async (config, log): Promise<Backend> => {
  const { QemuVirtualizer } = await import('#vm');
  return QemuVirtualizer.create({
    dataDir: config.dataDir,
    runDir: config.runDir,
    imagePaths: config.imagePaths,
    uidRange: config.uidRange,
    managedNetworks: config.managedNetworks,
    bridges: config.bridges,
    maxConnections: config.maxConnections,
    maxImageBytes: config.limits.maxDiskMiB * 1024 ** 2,
    log,
  });
};
