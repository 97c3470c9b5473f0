/**
 * `ceph-process.ts <dir>` runs a Ceph cluster in an empty directory until its input ends. Prints one line of JSON, the
 * pool as the plugin's configuration has it, once the cluster is ready; `<dir>/ceph.conf` lets `rbd` and `ceph` act as
 * its administrator.
 */
import { once } from 'node:events';
import { CephCluster } from './ceph.ts';

await using cluster = await CephCluster.start(process.argv[2] ?? '');
console.log(JSON.stringify(cluster.pool));
process.stdin.resume();
await once(process.stdin, 'end');
