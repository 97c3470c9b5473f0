import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { closeFd } from '#host';
import { askFromHost, must } from '../support/guest.ts';
import { inOwnNetns } from '../support/netns.ts';
import { Host, leftovers, nothing, virbr0 } from '../support/networks.ts';

/** Something of the host's own that listens. */
async function listen(
  protocol: 'tcp' | 'udp',
  address: string,
  port: number,
): Promise<AsyncDisposable> {
  const ready = Promise.withResolvers<void>();
  if (protocol === 'udp') {
    const socket = createSocket('udp4').bind(port, address, ready.resolve);
    await ready.promise;
    return { [Symbol.asyncDispose]: async () => void socket.close() };
  }
  const server = createServer((request, response) => {
    response.end(`the host saw ${request.socket.remoteAddress}`);
  });
  server.listen(port, address, ready.resolve);
  await ready.promise;
  return {
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const port = (hostIp: string) => ({ label: 'ssh', hostIp, hostPort: 2222, guestPort: 22 });

inOwnNetns(import.meta.url, ['ip', 'nft', 'mount', 'umount'], () => {
  const taken = [
    ['tcp', '0.0.0.0', '192.0.2.1'],
    ['tcp', '192.0.2.1', '192.0.2.1'],
    ['tcp', '192.0.2.1', ''],
    ['tcp', '::', '192.0.2.1'],
    ['udp', '0.0.0.0', '192.0.2.1'],
    ['udp', '127.0.0.1', ''],
  ] as const;
  for (const [protocol, address, hostIp] of taken) {
    test(`V-112: a port the host listens on is not taken from it: ${protocol} ${address} for ${hostIp || 'every address'}`, async () => {
      await must('ip', 'link', 'set', 'lo', 'up');
      await must('ip', 'addr', 'replace', '192.0.2.1/32', 'dev', 'lo');
      await using host = await Host.open();
      {
        await using _ = await listen(protocol === 'udp' ? 'udp' : 'tcp', address, 2222);
        await assert.rejects(host.attach('web', { ports: [port(hostIp)] }), {
          code: 'host',
          recoverable: true,
          message: `VM web: port ssh on ${hostIp || '*'}:2222 can't be mapped: a program of this host listens there already`,
        });
        assert.deepEqual(await leftovers(), nothing);
      }
      const nic = await host.attach('web', { ports: [port(hostIp)] });
      closeFd(nic.tapFd);
      await host.detach('web');
    });
  }

  test('V-112: what listens at another address, or on none of this host, is no hindrance', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open();
    await using _ = await listen('tcp', '127.0.0.1', 2222);
    for (const hostIp of ['127.0.0.2', '203.0.113.7']) {
      const nic = await host.attach('web', { ports: [port(hostIp)] });
      closeFd(nic.tapFd);
      await host.detach('web');
    }
    assert.deepEqual(await leftovers(), nothing);
  });

  test('the host is seen as itself at its own address in a network', async () => {
    await must('ip', 'link', 'set', 'lo', 'up');
    await using host = await Host.open();
    const nic = await host.attach('web');
    await using _ = await listen('tcp', '192.168.122.1', 4646);
    assert.equal(await askFromHost('tcp', '192.168.122.1', 4646), 'the host saw 192.168.122.1');
    closeFd(nic.tapFd);
    await host.detach('web');
  });

  test('a host without a name server for guests reports it once, with the remedy', async () => {
    const { nameservers: _, ...rest } = virbr0;
    const open = { ...rest, dns: false };
    await using host = await Host.open([open]);
    const file = join(host.dir, 'resolv.conf');
    await writeFile(file, 'nameserver 127.0.0.53\n');
    await must('mount', '--bind', file, '/etc/resolv.conf');
    for (const vm of ['web', 'other']) closeFd((await host.attach(vm)).tapFd);
    for (const vm of ['web', 'other']) await host.detach(vm);
    await must('umount', '/etc/resolv.conf');
    const said = host.lines.filter((line) => /no name server/.test(line));
    assert.equal(said.length, 1);
    assert.match(
      said[0] ?? '',
      /"bridge":"virbr0","advice":"list nameservers in its managed_network/,
    );
  });
});
