/** The name of a key's type, then its bytes in base64, which begin with a length below 2^8 and so with `AAAA`. */
const publicKey = /(?:^|[ \t])(?:sk-)?(?:ssh|ecdsa)-[a-z0-9-]{1,40}(?:@openssh\.com)?[ \t]+AAAA/;

/**
 * What is wrong with a text of SSH public keys, one a line as in an authorized_keys file; undefined when nothing is. The
 * text is not repeated, it may be a private key.
 */
export function sshKeyProblem(text: string): string | undefined {
  const form = 'write the key itself, such as "ssh-ed25519 AAAA… me@example"';
  if (text.includes('-----BEGIN ')) return `is a private key or a certificate in PEM: ${form}`;
  const lines = text.split('\n').map((line) => line.trim());
  const wrong = lines.findIndex((line) => /^[^#]/.test(line) && !publicKey.test(line));
  const { [wrong]: line } = lines;
  if (line === undefined) return undefined;
  const where = lines.length > 1 ? `line ${wrong + 1} ` : '';
  if (/^(?:~|\.{0,2}\/|\$\{)|\.pub$/.test(line)) {
    return `${where}is the path of a file: ${form}, or file("…") with the path`;
  }
  return `${where}is not an SSH public key: ${form}`;
}
