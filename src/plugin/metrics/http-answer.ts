import type { Socket } from 'node:net';

/** For the request to come, and for each pause of a client that reads the answer. */
const patienceMs = 5000;
const maxHeadBytes = 8192;

export interface HttpRequest {
  readonly method: string;
  /** Without what follows a question mark. */
  readonly path: string;
}

export interface HttpAnswer {
  readonly status: '200 OK' | '404 Not Found';
  readonly contentType: string;
  readonly body: Buffer;
}

/**
 * Answers one request on a connection, and closes it. Not Node's own server: that takes as many requests from a connection as it
 * holds, thousands in one piece, before anything else has its turn.
 */
export function answerOne(
  socket: Socket,
  answer: (request: HttpRequest) => Promise<HttpAnswer>,
): void {
  const late = setTimeout(() => socket.destroy(), patienceMs).unref();
  socket.once('close', () => clearTimeout(late)).on('error', () => {});
  let head = '';
  const read = (chunk: Buffer): void => {
    head += chunk.toString('latin1');
    const isWhole = /\n\r?\n/.test(head);
    if (!isWhole && head.length <= maxHeadBytes) return;
    clearTimeout(late);
    socket.off('data', read);
    const request = isWhole ? requestOf(head) : undefined;
    if (request === undefined) socket.destroy();
    else respond(socket, answer(request)).catch(() => socket.destroy());
  };
  socket.on('data', read);
}

/** By its parts, each found once: a pattern of the whole line took seconds for one of a client that harms. */
function requestOf(head: string): HttpRequest | undefined {
  const [line = ''] = head.split(/\r?\n/, 1);
  const [method = '', target = '', version = '', ...more] = line.split(' ', 4);
  const [path = ''] = target.split('?', 1);
  const isRequest = /^[A-Z]+$/.test(method) && /^HTTP\/1\.[01]$/.test(version);
  return isRequest && path !== '' && more.length === 0 ? { method, path } : undefined;
}

async function respond(socket: Socket, answer: Promise<HttpAnswer>): Promise<void> {
  const { status, contentType, body } = await answer;
  const head = [
    `HTTP/1.1 ${status}`,
    `content-type: ${contentType}`,
    `content-length: ${body.length}`,
    'connection: close',
  ];
  socket.setTimeout(patienceMs, () => socket.destroy());
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  socket.write(body);
  // It may go on sending, or not close its end.
  socket.destroySoon();
}
