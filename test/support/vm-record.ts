import type { VmRecord } from '../../src/vm/store/record.ts';

/** The record of a VM that is not there, without devices. */
export const exampleRecord: VmRecord = {
  name: 'web-12345678',
  uuid: '83c5b4f2-72de-88e5-b967-d4b519ea8d10',
  dataDir: '/var/lib/virt',
  nodeId: 'node',
  taskId: 'alloc/web/12345678',
  taskName: 'web',
  allocId: 'alloc',
  groupName: 'group',
  jobId: 'job',
  jobName: 'job',
  namespace: 'default',
  nodeName: 'n1',
  allocDir: '/alloc',
  machine: 'pc-q35-7.2',
  accelerator: 'tcg',
  vcpus: 1,
  memoryMiB: 64,
  uid: 1_900_000_000,
  runDir: '/run/nomad-driver-qmp/12345678',
  startedAtMs: 1_700_000_000_000,
  oomKillsBefore: 0,
  devices: [],
};
