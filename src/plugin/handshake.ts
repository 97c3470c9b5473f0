/** The cookie that Nomad's launches carry and a person's do not. */
const cookieName = 'NOMAD_PLUGIN_MAGIC_COOKIE';
const cookie = 'e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255';

export type Launch =
  | { readonly kind: 'serve' }
  /** Started by a person: the cookie is missing. */
  | { readonly kind: 'by-hand' }
  | { readonly kind: 'refuse'; readonly reason: string };

/** Who started this process, and whether it can be served. */
export function readLaunch(env: NodeJS.ProcessEnv): Launch {
  if (env[cookieName] !== cookie) return { kind: 'by-hand' };
  if (env.PLUGIN_CLIENT_CERT) {
    // Answering in plain text would only look like a broken TLS connection to the host.
    return { kind: 'refuse', reason: 'PLUGIN_CLIENT_CERT is set, and this plugin speaks no TLS' };
  }
  return { kind: 'serve' };
}

/**
 * The one line on stdout: core protocol 1, application protocol 2, where we listen, and no certificate. A seventh field
 * only for hosts that announce they know it; older ones would glue it to the sixth.
 */
export function handshakeLine(socketPath: string, env: NodeJS.ProcessEnv): string {
  const multiplex = env.PLUGIN_MULTIPLEX_GRPC ? '|false' : '';
  return `1|2|unix|${socketPath}|grpc|${multiplex}\n`;
}
