/** The driver's own directories in data_dir, closed to every job: for its VMs, their users and their networks. */
export const stateNames = ['vms', 'uids', 'networks'] as const;
