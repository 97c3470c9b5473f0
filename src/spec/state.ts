/** The driver's own directories in data_dir, closed to every job: for its VMs, their users and networks, and images that it made. */
export const stateNames = ['vms', 'uids', 'networks', 'image-store'] as const;
