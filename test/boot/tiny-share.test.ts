import assert from 'node:assert/strict';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { ShareSpec } from '#spec';
import { groundFor, guestOrSkip, guestSpec, powerOff, told } from '../support/live-vm.ts';
import { findProgram } from '../support/programs.ts';
import { requireOrSkip } from '../support/require.ts';
import { tmpDir } from '../support/tmp.ts';
import { canRunVms, soon, VmGround } from '../support/vm.ts';

/** A directory of the client's that belongs to this user, with one file of root's in it. */
function volume(t: TestContext, owner: number): string {
  const dir = join(tmpDir(t), 'volume');
  mkdirSync(dir);
  writeFileSync(join(dir, 'of-root'), 'root', { mode: 0o600 });
  chownSync(dir, owner, owner);
  return dir;
}

function share(source: string, tag: string, readOnly: boolean): ShareSpec {
  return { tag, source, target: `/${tag}`, readOnly, volume: true };
}

/** What the guest does, and what it reports: one word for each line of the script. */
const script = `#!/bin/sh
for tag in wide narrow closed; do
  mkdir -p /$tag
  mount -t virtiofs $tag /$tag
done
{
  try() { if "$@" > /dev/null 2>&1; then echo yes; else echo no; fi; }
  echo "RESULT" \\
    $(try sh -c 'echo hello > /wide/file') \\
    $(try chown 1000:1000 /wide/file) \\
    $(try mknod /wide/device b 7 0) \\
    $(try cat /wide/of-root) \\
    $(try chown 0:0 /wide/of-root) \\
    $(try sh -c 'echo hello > /narrow/file') \\
    $(try chown 1000:1000 /narrow/file) \\
    $(try sh -c 'echo hello > /closed/file') \\
    $(try cat /closed/of-root)
} > /dev/console
`;

test('V-50 V-69 V-70: a guest writes to a volume as its owner, and is root of nothing on the host', async (t) => {
  const guest = await guestOrSkip(t, 'tiny');
  if (guest === undefined) return;
  const virtiofsd = findProgram('virtiofsd') ?? '/usr/lib/qemu/virtiofsd';
  if (!requireOrSkip(t, existsSync(virtiofsd), 'needs virtiofsd')) return;
  await using ground = groundFor(guest);
  const [wide, narrow, closed] = [volume(t, 200_000), volume(t, 1234), volume(t, 0)];
  const pipes = ground.pipes();
  const log = ground.read(pipes.stdoutPath);
  const virtualizer = ground.virtualizer();
  const base = guestSpec(ground, guest, {});
  const spec = ground.spec(0, {
    ...base,
    ...pipes,
    shares: [
      share(wide, 'wide', false),
      share(narrow, 'narrow', false),
      share(closed, 'closed', true),
    ],
    guest: { ...base.guest, userData: { kind: 'inline', text: script } },
  });
  const domain = await virtualizer.createDomain(spec, soon(60_000));
  const text = await told(log, /RESULT( \w+){9}/, 120_000);
  await powerOff(virtualizer, domain);
  const result = /RESULT((?: \w+){9})/.exec(text)?.[1]?.trim();
  assert.equal(result, 'yes yes no no no yes no no yes');
  const owners = ['file', '.'].map((name) => {
    const { uid, gid } = lstatSync(join(wide, name));
    return `${uid}:${gid}`;
  });
  assert.deepEqual(owners, ['201000:201000', '200000:200000']);
  assert.equal(lstatSync(join(narrow, 'file')).uid, 1234);
  assert.equal(readFileSync(join(narrow, 'file'), 'utf8'), 'hello\n');
  await virtualizer.destroyDomain(domain.name);
});

test('V-50: what can not be shared with the guest is an error, with what to do', async (t) => {
  if (!canRunVms(t)) return;
  await using ground = VmGround.open();
  const virtualizer = ground.virtualizer();
  const file = join(tmpDir(t), 'file');
  writeFileSync(file, '');
  const rootless = volume(t, 0);
  chmodSync(rootless, 0o755);
  const shares = [share(rootless, 'a', false), share(file, 'b', true), share('/none', 'c', true)];
  const problems = await virtualizer.problemsOf(ground.spec(0, { shares }), soon());
  assert.deepEqual(problems, [
    `volume_mount "/a": ${rootless} belongs to root, which the guest's root must not be on this host; give it to another user, for example: chown 200000:200000 ${rootless}; or set read_only`,
    `volume_mount "/b": ${file} is not a directory`,
    `volume_mount "/c": ENOENT: no such file or directory, stat '/none'`,
  ]);
});
