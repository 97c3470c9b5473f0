/** Where volumes are created. */
export type StoragePool =
  | { readonly kind: 'directory'; readonly name: string; readonly path: string }
  | {
      readonly kind: 'ceph';
      readonly name: string;
      /** The RADOS pool. */
      readonly pool: string;
      readonly hosts: readonly { readonly host: string; readonly port: number | undefined }[];
      readonly username: string;
      /** The cephx key in base64. Never in a command line, a file, a log or an error. */
      readonly secret: string;
    };

export interface StoragePools {
  readonly pools: readonly StoragePool[];
  /** Name of the default pool; undefined: the driver's own, in data_dir. */
  readonly default: string | undefined;
}
