/** Nomad sets this cookie when it launches a plugin; a shell does not. */
const cookieName = 'NOMAD_PLUGIN_MAGIC_COOKIE';
const cookie = 'e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255';

export type Launch =
  | { readonly kind: 'serve' }
  /** Started by hand: the cookie is missing. */
  | { readonly kind: 'by-hand' }
  | { readonly kind: 'refuse'; readonly reason: string };

/** Whether Nomad started this process, and whether it can be served. */
export function readLaunch(env: NodeJS.ProcessEnv): Launch {
  if (env[cookieName] !== cookie) return { kind: 'by-hand' };
  if (env.PLUGIN_CLIENT_CERT) {
    // To the host, answers in plain text would be a broken TLS connection.
    return {
      kind: 'refuse',
      reason: 'PLUGIN_CLIENT_CERT is set, and this plugin does not support TLS',
    };
  }
  return { kind: 'serve' };
}

/**
 * The one line on stdout: core protocol 1, application protocol 2, the socket's path, and no certificate. A seventh field
 * only for hosts that announce support for it; older ones would append it to the sixth.
 */
export function handshakeLine(socketPath: string, env: NodeJS.ProcessEnv): string {
  const multiplex = env.PLUGIN_MULTIPLEX_GRPC ? '|false' : '';
  return `1|2|unix|${socketPath}|grpc|${multiplex}\n`;
}
