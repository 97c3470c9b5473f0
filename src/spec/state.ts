/** Directories in data_dir that are the driver's own, closed to every job: of its VMs, their users, their networks. */
export const stateNames = ['vms', 'uids', 'networks'] as const;
