/**
 * A program for the far end of a network test. `peer.ts serve <port> <name> [address]` answers over HTTP and UDP with its name
 * and with who asked, and a request for `/<bytes>` with as many bytes, of which `peer.ts pull <host> <port> <bytes>` prints
 * how many seconds they took; `peer.ts ask <tcp|udp> <host> <port> [ms]` asks once and prints the
 * answer.
 */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';

const [verb = '', ...words] = process.argv.slice(2);
const withinMs = Number(words[3] ?? 5000);
if (verb === 'serve') serve(Number(words[0]), words[1] ?? '', words[2]);
else if (verb === 'pull') await pull(words[0] ?? '', Number(words[1]), Number(words[2]));
else {
  await ask(words[0] ?? '', words[1] ?? '', Number(words[2]));
  // A connection that was given up keeps the process for as long as undici tries to make it.
  process.exit();
}

function serve(port: number, name: string, address = '0.0.0.0'): void {
  const udp = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  udp.on('message', (_, from) => udp.send(`${name} saw ${from.address}`, from.port, from.address));
  const http = createServer((request, response) => {
    const bytes = Number(request.url?.slice(1));
    if (bytes > 0) response.end(Buffer.alloc(bytes));
    else response.end(`${name} saw ${request.socket.remoteAddress ?? ''}`);
  });
  http.listen(port, address, () => udp.bind(port, address, () => console.log('ready')));
}

async function ask(protocol: string, host: string, port: number): Promise<void> {
  try {
    console.log(await (protocol === 'udp' ? askUdp(host, port) : askTcp(host, port)));
  } catch (error) {
    console.log(error instanceof Error ? (error.cause ?? error) : error);
    process.exitCode = 1;
  }
}

async function pull(host: string, port: number, bytes: number): Promise<void> {
  const begun = performance.now();
  const answer = await fetch(`http://${host}:${port}/${bytes}`);
  assert.equal((await answer.arrayBuffer()).byteLength, bytes);
  console.log((performance.now() - begun) / 1000);
}

async function askTcp(host: string, port: number): Promise<string> {
  const name = host.includes(':') ? `[${host}]` : host;
  const answer = await fetch(`http://${name}:${port}/`, { signal: AbortSignal.timeout(withinMs) });
  return await answer.text();
}

async function askUdp(host: string, port: number): Promise<string> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error('no answer')), withinMs);
  socket.once('message', (answer) => resolve(answer.toString()));
  socket.once('error', reject);
  socket.send('?', port, host);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}
