import { generateKeyPairSync, randomBytes } from 'node:crypto';

/** An Ed25519 key in the formats of OpenSSH: as its programs read a private key, and one line without a line break. */
export interface SshKeyPair {
  readonly private: string;
  readonly public: string;
}

const type = 'ssh-ed25519';
const magic = 'openssh-key-v1\0';
const blockBytes = 8;
const lineLength = 70;

export function newKeyPair(comment: string): SshKeyPair {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { d = '', x = '' } = privateKey.export({ format: 'jwk' });
  const seed = Buffer.from(d, 'base64url');
  const point = Buffer.from(x, 'base64url');
  const publicBlob = Buffer.concat([field(type), field(point)]);
  return {
    private: privateText(publicBlob, { seed, point, comment }),
    public: `${type} ${publicBlob.toString('base64')} ${comment}`,
  };
}

// PROTOCOL.key of OpenSSH. Older releases read an Ed25519 key in no other format.
function privateText(
  publicBlob: Buffer,
  key: { readonly seed: Buffer; readonly point: Buffer; readonly comment: string },
): string {
  const check = randomBytes(4);
  const secret = Buffer.concat([
    ...[check, check, field(type), field(key.point)],
    ...[field(Buffer.concat([key.seed, key.point])), field(key.comment)],
  ]);
  const padding = Array.from(
    { length: -secret.length & (blockBytes - 1) },
    (_, index) => index + 1,
  );
  const none = [field('none'), field('none'), field('')];
  const count = Buffer.from([0, 0, 0, 1]);
  const padded = Buffer.concat([secret, Buffer.from(padding)]);
  const all = Buffer.concat([Buffer.from(magic), ...none, count, field(publicBlob), field(padded)]);
  const lines = all.toString('base64').match(new RegExp(`.{1,${lineLength}}`, 'g')) ?? [];
  const name = 'OPENSSH PRIVATE KEY';
  return [`-----BEGIN ${name}-----`, ...lines, `-----END ${name}-----`, ''].join('\n');
}

/** Text or bytes after their length. */
function field(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}
