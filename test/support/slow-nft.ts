import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '#host';

/**
 * A program `nft` in the directory that applies rules only once the file `go` exists, and refuses them when it has content.
 * Its process id is in the file `pid` by then.
 */
export function slowNft(dir: string): {
  readonly nft: string;
  readonly go: string;
  readonly pid: string;
} {
  const go = join(dir, 'go');
  const pid = join(dir, 'pid');
  const nft = join(dir, 'nft');
  const real = findProgram('nft') ?? 'nft';
  const wait = `echo $$ >${pid}; until [ -e ${go} ]; do sleep 0.02; done; [ -s ${go} ] && { echo no >&2; exit 1; }`;
  writeFileSync(nft, `#!/bin/sh\n[ "$1" = -f ] && { ${wait}; }\nexec ${real} "$@"\n`);
  chmodSync(nft, 0o755);
  return { nft, go, pid };
}
