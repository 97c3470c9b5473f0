import { rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { closeFd, errnoOf, inTurns, type Logger, listenTcp, listenUnix, within } from '#host';
import type { Domain, DomainFigures } from '#vm';
import type { MetricsPlace } from '../agent/metrics.ts';
import { messageOf } from '../error/message.ts';
import { contentType, formatMetrics } from './exposition.ts';
import { answerOne, type HttpAnswer, type HttpRequest } from './http-answer.ts';

const retryMs = 5000;
const scrapeMs = 5000;
/** A request that comes sooner gets the same text: it costs with each VM, and every user of the host may ask at a TCP port. */
const sharedMs = 250;
const maxConnections = 16;
/** Figures of so many VMs take 3 ms, and some ten where the code is cold. */
const vmsPerTurn = 16;

export interface MetricsOptions {
  readonly place: MetricsPlace;
  /** The VMs that run. */
  readonly domains: () => readonly Pick<Domain, 'figures'>[];
  readonly log: Logger;
}

/**
 * Serves the figures of this process's VMs. Where another process listens at the place, the plugin before this one or that of
 * another agent, it waits until that ends: each place belongs to one process at a time.
 */
export class MetricsEndpoint implements Disposable {
  readonly #options: MetricsOptions;
  readonly #server: Server;
  readonly #connections = new Set<Socket>();
  #last: { readonly atMs: number; readonly text: Promise<Buffer> } | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;

  private constructor(options: MetricsOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#connections.add(socket);
      socket.once('close', () => this.#connections.delete(socket));
      answerOne(socket, (request) => this.#answer(request));
    });
    this.#server.maxConnections = maxConnections;
    this.#server.on('error', (error) => options.log.warn('metrics: not served', { error }));
  }

  static open(options: MetricsOptions): MetricsEndpoint {
    const endpoint = new MetricsEndpoint(options);
    void endpoint.#listen(true);
    return endpoint;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#server.close();
    for (const socket of this.#connections) socket.destroy();
  }

  async #listen(first: boolean): Promise<void> {
    const { place, log } = this.#options;
    try {
      const fd = await bind(place);
      if (this.#closed) return closeFd(fd);
      this.#server.listen({ fd });
      this.#server.unref();
      log.info('metrics are served', { ...place });
    } catch (error) {
      if (this.#closed) return;
      if (first) log.warn('metrics: waiting for the place', { ...place, error: messageOf(error) });
      this.#retry = setTimeout(() => void this.#listen(false), retryMs).unref();
    }
  }

  async #answer({ method, path }: HttpRequest): Promise<HttpAnswer> {
    if (method === 'GET' && path === '/metrics') {
      return { status: '200 OK', contentType, body: await this.#text() };
    }
    const body = Buffer.from('GET /metrics\n');
    return { status: '404 Not Found', contentType: 'text/plain; charset=utf-8', body };
  }

  #text(): Promise<Buffer> {
    const nowMs = performance.now();
    if (this.#last === undefined || nowMs - this.#last.atMs >= sharedMs)
      this.#last = { atMs: nowMs, text: this.#measure() };
    return this.#last.text;
  }

  async #measure(): Promise<Buffer> {
    using limited = within(scrapeMs);
    const asked: Promise<DomainFigures | undefined>[] = [];
    await inTurns(this.#options.domains(), vmsPerTurn, (domain) => {
      // A VM that ends meanwhile has no figures.
      asked.push(domain.figures(limited).catch(() => undefined));
    });
    const all = await Promise.all(asked);
    return await formatMetrics(all.filter((figures) => figures !== undefined));
  }
}

/** Throws HostError EADDRINUSE where another process listens there. */
async function bind(place: MetricsPlace): Promise<number> {
  if (place.kind === 'tcp') return listenTcp(place.host, place.port);
  try {
    return listenUnix(place.path);
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE' || !(await isLeft(place.path))) throw error;
    rmSync(place.path);
    return listenUnix(place.path);
  }
}

/** Whether it is the socket of a process that has ended. */
function isLeft(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', (error) => resolve(errnoOf(error) === 'ECONNREFUSED'));
  });
}
