import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from './guest.ts';
import type { VmGround } from './vm.ts';

/** A bridge of the host that is not the driver's, with a DHCP server of Debian on it, which gives addresses alone. */
export class ForeignNetwork {
  readonly bridge = 'lan0';
  readonly #leases: string;

  private constructor(leases: string) {
    this.#leases = leases;
  }

  static async open(ground: VmGround): Promise<ForeignNetwork> {
    const network = new ForeignNetwork(join(ground.root, 'dhcp-leases'));
    const { bridge } = network;
    await must('ip', 'link', 'add', bridge, 'type', 'bridge');
    await must('ip', 'address', 'add', '10.50.0.1/24', 'dev', bridge);
    await must('ip', 'link', 'set', bridge, 'up');
    const options = [
      ...['--keep-in-foreground', '--conf-file=/dev/null', '--port=0', '--user=root'],
      ...[`--interface=${bridge}`, '--bind-interfaces', '--dhcp-range=10.50.0.100,10.50.0.150'],
      // Neither a router nor name servers.
      ...['--dhcp-option=3', '--dhcp-option=6', '--log-facility=/dev/null'],
      ...[`--pid-file=${ground.root}/dhcp-pid`, `--dhcp-leasefile=${network.#leases}`],
    ];
    ground.own(spawn('dnsmasq', options, { stdio: 'inherit' }));
    return network;
  }

  /** The addresses of guests that were told apart by their MAC address: in their identifier, or where they sent none. */
  leasesByMac(): readonly string[] {
    const text = existsSync(this.#leases) ? readFileSync(this.#leases, 'latin1') : '';
    return [...text.matchAll(/^\d+ (\S+) (\S+) \S+ (?:\*|\S*\1)$/gm)].map(([, , ip = '']) => ip);
  }
}
