/** Properties by which people tune a machine and that its guest does not rely on: QEMU's own choice serves. */

/** Of `-device`: where a device is on its bus, its queues, caches and offloads. */
export const deviceTuning = [
  ...['id', 'bus', 'addr', 'unit', 'lun', 'scsi-id', 'channel', 'multifunction', 'acpi-index'],
  ...['port', 'chassis', 'slot', 'removable', 'disable-legacy', 'disable-modern'],
  ...['vectors', 'mq', 'iothread', 'num-queues', 'queues', 'queue-size', 'virtqueue_size'],
  ...['rx_queue_size', 'tx_queue_size', 'ioeventfd', 'event_idx', 'packed', 'tx', 'in_order'],
  ...['romfile', 'rombar', 'scsi', 'write-cache', 'config-wce', 'share-rw', 'rotation_rate'],
  ...['physical_block_size', 'min_io_size', 'opt_io_size'],
  ...['discard', 'discard_granularity', 'max_unmap_size', 'seg-max-adjust', 'request-merging'],
  ...['werror', 'rerror'],
  ...['guest_csum', 'csum', 'gso', 'guest_tso4', 'guest_tso6', 'guest_ufo', 'host_tso4'],
  ...['host_tso6', 'host_ufo', 'guest_ecn', 'host_ecn', 'host_mtu', 'mrg_rxbuf', 'ctrl_vq'],
  ...['ats', 'page-per-vq', 'iommu_platform', 'rss', 'hash', 'speed', 'duplex'],
] as const;

/** Of `-drive`. */
export const driveTuning = [
  ...['index', 'unit', 'media', 'addr', 'boot', 'cyls', 'heads', 'secs', 'node-name'],
  ...['detect-zeroes', 'discard', 'werror', 'rerror', 'copy-on-read', 'auto-read-only'],
  ...['locking', 'file.locking', 'overlap-check', 'lazy-refcounts'],
  ...['l2-cache-size', 'l2-cache-entry-size', 'refcount-cache-size', 'cache-size'],
  ...['cache-clean-interval', 'pass-discard-request', 'pass-discard-snapshot'],
  ...['pass-discard-other', 'discard-no-unref', 'stats-account-invalid', 'stats-account-failed'],
] as const;

/** Of `-machine`. */
export const machineTuning = [
  ...['usb', 'vmport', 'kernel_irqchip', 'kernel-irqchip', 'mem-merge', 'dump-guest-core'],
  ...['graphics', 'hpet', 'acpi', 'pit', 'smm', 'smbus', 'sata', 'fd-bootchk', 'pcspk-audiodev'],
  ...['gic-version', 'its', 'ras', 'highmem', 'dtb-randomness', 'dtb-kaslr-seed', 'hmat', 'nvdimm'],
  ...['suppress-vmdesc', 'max-ram-below-4g', 'memory-backend', 'aux-ram-share'],
  ...['smbios-entry-point-type', 'default-bus-bypass-iommu', 'default_bus_bypass_iommu'],
] as const;

/** Of `-global`, by driver and property. */
export const globalTuning = [
  /^cfi\.pflash01\.secure$/,
  /^[\w-]+\.(lost_tick_policy|disable_s[34])$/,
  /^(VGA|qxl|qxl-vga|cirrus-vga|vmware-svga|virtio-vga)\.(vgamem_mb|(ram|vram|vram64)_size(_mb)?)$/,
  /^isa-debugcon\.iobase$/,
] as const;
