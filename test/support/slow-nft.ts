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

/** The same program, which applies rules at once and then does not end until the file `go` exists. */
export function lingeringNft(dir: string): ReturnType<typeof slowNft> {
  const go = join(dir, 'go');
  const pid = join(dir, 'pid');
  const nft = join(dir, 'nft');
  const python = findProgram('python3') ?? 'python3';
  writeFileSync(
    nft,
    `#!${python}
import ctypes, os, sys, time
nft = ctypes.CDLL('libnftables.so.1')
nft.nft_ctx_new.restype = ctypes.c_void_p
open('${pid}', 'w').write(str(os.getpid()))
code = nft.nft_run_cmd_from_buffer(ctypes.c_void_p(nft.nft_ctx_new(0)), sys.stdin.buffer.read())
while not os.path.exists('${go}'): time.sleep(0.02)
sys.exit(-code)
`,
  );
  chmodSync(nft, 0o755);
  return { nft, go, pid };
}
