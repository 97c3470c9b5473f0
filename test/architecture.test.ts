import assert from 'node:assert/strict';
import { existsSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';

const root = resolve(import.meta.dirname, '..');

/** Which rooms a room may import, through their doors only. */
const rooms: Readonly<Record<string, readonly string[]>> = {
  plugin: ['vm', 'host', 'spec'],
  vm: ['image', 'net', 'qemu', 'cloudinit', 'qmp', 'host', 'spec'],
  image: ['host', 'spec'],
  net: ['netlink', 'host', 'spec'],
  netlink: ['host', 'spec'],
  qemu: ['host', 'spec'],
  qmp: ['spec'],
  cloudinit: ['spec'],
  host: ['spec'],
  spec: [],
};

/**
 * In a room with folders: which of its folders and top files each of them may import, from the top down. Only its door may
 * import them all.
 */
const folders: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  plugin: {
    serve: ['metrics', 'tasks', 'job', 'agent', 'hcl', 'error', 'gen'],
    metrics: ['agent', 'error'],
    tasks: ['job', 'agent', 'error', 'gen'],
    job: ['args', 'agent', 'hcl', 'error', 'gen'],
    args: [],
    agent: ['hcl', 'error'],
    hcl: ['error', 'gen'],
    error: ['gen'],
    gen: [],
  },
  vm: {
    'qemu-virtualizer.ts': [
      'host-health.ts',
      'sweeper.ts',
      'start',
      'live',
      'store',
      'virtualizer.ts',
      'vm-host.ts',
      'error.ts',
    ],
    'host-health.ts': ['devices', 'virtualizer.ts', 'vm-host.ts', 'error.ts'],
    'sweeper.ts': ['store', 'virtualizer.ts', 'vm-host.ts', 'error.ts'],
    start: [
      'disks',
      'devices',
      'live',
      'logs',
      'store',
      'virtualizer.ts',
      'vm-host.ts',
      'task-event.ts',
      'error.ts',
    ],
    disks: ['devices', 'store', 'error.ts'],
    devices: ['ssh', 'logs', 'store', 'vm-host.ts', 'task-event.ts', 'error.ts'],
    live: [
      'control',
      'progress',
      'figures',
      'guest',
      'logs',
      'store',
      'virtualizer.ts',
      'domain-figures.ts',
      'task-event.ts',
      'error.ts',
    ],
    control: ['guest', 'store', 'virtualizer.ts', 'lent-files.ts', 'task-event.ts', 'error.ts'],
    figures: ['store', 'domain-figures.ts'],
    progress: ['guest', 'logs', 'store', 'task-event.ts', 'error.ts'],
    guest: ['ssh', 'store', 'virtualizer.ts', 'lent-files.ts', 'error.ts'],
    ssh: ['store'],
    logs: ['store', 'error.ts'],
    store: ['vm-host.ts', 'error.ts'],
    'virtualizer.ts': ['domain-figures.ts'],
    'domain-figures.ts': [],
    'vm-host.ts': [],
    'lent-files.ts': [],
    'task-event.ts': [],
    'error.ts': [],
  },
  image: {
    'image-handler.ts': ['allow-list.ts', 'overlay.ts', 'open-image.ts', 'roots.ts'],
    fat: ['allow-list.ts', 'file-kind.ts', 'positional.ts', 'roots.ts', 'error.ts'],
    store: [
      'allow-list.ts',
      'convert',
      'import',
      'copy.ts',
      'open-image.ts',
      'other-file.ts',
      'positional.ts',
      'roots.ts',
      'sniff.ts',
      'zero-runs.ts',
      'error.ts',
    ],
    convert: ['error.ts'],
    import: ['positional.ts', 'sniff.ts', 'zero-runs.ts', 'error.ts'],
    'device.ts': ['copy.ts', 'open-image.ts', 'positional.ts', 'error.ts'],
    'copy.ts': [
      'open-image.ts',
      'positional.ts',
      'qcow2.ts',
      'sniff.ts',
      'zero-runs.ts',
      'error.ts',
    ],
    'plain-file.ts': ['allow-list.ts', 'positional.ts', 'roots.ts', 'error.ts'],
    'first-sectors.ts': ['open-image.ts', 'positional.ts', 'error.ts'],
    'overlay.ts': ['open-image.ts', 'overlay-layout.ts', 'error.ts'],
    'open-image.ts': [
      'allow-list.ts',
      'other-file.ts',
      'positional.ts',
      'qcow2.ts',
      'roots.ts',
      'sniff.ts',
      'error.ts',
    ],
    'other-file.ts': ['positional.ts'],
    'overlay-layout.ts': ['qcow2.ts'],
    'positional.ts': [],
    'qcow2.ts': [],
    'roots.ts': ['address.ts', 'allow-list.ts', 'file-kind.ts', 'error.ts'],
    'allow-list.ts': ['error.ts'],
    'file-kind.ts': ['error.ts'],
    'address.ts': ['error.ts'],
    'sniff.ts': [],
    'zero-runs.ts': [],
    'error.ts': [],
  },
  net: {
    'networks.ts': [
      'bandwidth',
      'build',
      'group',
      'dhcp',
      'dns',
      'firewall',
      'rules',
      'links',
      'store',
      'model',
    ],
    build: ['bandwidth', 'dhcp', 'dns', 'firewall', 'rules', 'links', 'store', 'model'],
    bandwidth: ['group', 'rules', 'links', 'model'],
    group: ['dhcp', 'rules', 'links', 'model'],
    dhcp: ['links', 'store', 'model'],
    dns: ['links', 'store', 'model'],
    firewall: ['rules', 'model'],
    rules: ['store', 'model'],
    links: ['store', 'model'],
    store: ['model'],
    model: [],
  },
  host: {
    process: ['files', 'native', 'turns.ts', 'waiting.ts', 'error.ts'],
    sockets: ['files', 'native', 'error.ts'],
    files: ['native', 'keyed-queue.ts', 'waiting.ts', 'log.ts', 'error.ts'],
    'spare-memory.ts': ['native'],
    native: ['error.ts'],
    'worker.ts': ['waiting.ts', 'error.ts'],
    'cpu.ts': [],
    'per-file.ts': ['shared-answers.ts'],
    'shared-answers.ts': ['waiting.ts'],
    'keyed-queue.ts': [],
    'beat.ts': ['turns.ts'],
    'turns.ts': [],
    'waiting.ts': [],
    'log.ts': [],
    'error.ts': [],
  },
  spec: {
    'vm.ts': ['disk.ts', 'display.ts', 'net'],
    'display.ts': ['net'],
    'disk.ts': [],
    'storage-pool.ts': [],
    'group-env.ts': [],
    'state.ts': [],
    'waiting.ts': [],
    net: ['text'],
    text: [],
  },
};

/** Packages that only the named places may import (rule 18). */
const packages: Readonly<Record<string, readonly string[]>> = {
  '@grpc/grpc-js': ['src/plugin/'],
  '@bufbuild/protobuf': ['src/plugin/'],
  '@msgpack/msgpack': ['src/plugin/hcl/cty.ts'],
  'dns-packet': ['src/net/dns/message.ts'],
  koffi: ['src/host/native/libc.ts', 'src/host/native/native.ts'],
  'node-pty': ['src/host/native/native.ts'],
  valibot: ['src/'],
  'js-yaml': ['src/cloudinit/yaml.ts'],
  'prom-client': ['src/plugin/metrics/exposition.ts'],
  'tar-stream': ['src/image/import/tar-header.ts'],
  'xz-decompress': ['src/image/import/xz.ts'],
};

/** Files that decide and never touch the world. */
const pure: readonly string[] = [
  'src/plugin/agent/',
  'src/plugin/args/',
  'src/plugin/error/',
  'src/plugin/hcl/',
  'src/plugin/job/',
  'src/plugin/serve/handshake.ts',
  'src/plugin/tasks/figure-attributes.ts',
  'src/plugin/tasks/shared-port.ts',
  'src/plugin/tasks/signals.ts',
  'src/plugin/tasks/task-handle.ts',
  'src/spec/',
  'src/vm/control/disk-growth.ts',
  'src/vm/control/request.ts',
  'src/vm/devices/allowed-files.ts',
  'src/vm/devices/seed-size.ts',
  'src/vm/disks/nbd/nbd-handshake.ts',
  'src/vm/disks/plan.ts',
  'src/vm/figures/stats.ts',
  'src/vm/guest/letters.ts',
  'src/vm/guest/marks.ts',
  'src/vm/guest/scripts.ts',
  'src/vm/guest/ssh/ssh-scripts.ts',
  'src/vm/live/group-request.ts',
  'src/vm/live/inspect.ts',
  'src/vm/live/limits.ts',
  'src/vm/live/state.ts',
  'src/vm/progress/cloud-init-report.ts',
  'src/vm/progress/duration-text.ts',
  'src/vm/ssh/key-pair.ts',
  'src/vm/ssh/ssh-arguments.ts',
  'src/vm/start/line.ts',
  'src/vm/start/ready.ts',
  'src/vm/store/device-record.ts',
  'src/vm/store/paths.ts',
  'src/qemu/channels.ts',
  'src/qemu/command-line.ts',
  'src/qemu/disks/',
  'src/qemu/display.ts',
  'src/qemu/exec-ports.ts',
  'src/qemu/flash.ts',
  'src/qemu/ignition.ts',
  'src/qemu/kernel.ts',
  'src/qemu/machine.ts',
  'src/qemu/max-vcpus.ts',
  'src/qemu/nic.ts',
  'src/qemu/part.ts',
  'src/qemu/platform.ts',
  'src/qemu/share.ts',
  'src/qemu/watchdog.ts',
  'src/image/address.ts',
  'src/image/convert/foreign-file.ts',
  'src/image/convert/foreign.ts',
  'src/image/convert/vdi.ts',
  'src/image/convert/vhdx.ts',
  'src/image/convert/vmdk.ts',
  'src/image/convert/vpc.ts',
  'src/image/fat/names.ts',
  'src/image/fat/plan.ts',
  'src/image/fat/records.ts',
  'src/image/fat/volume.ts',
  'src/image/import/budget.ts',
  'src/image/import/byte-reader.ts',
  'src/image/import/bzip2-codes.ts',
  'src/image/import/bzip2.ts',
  'src/image/import/ovf.ts',
  'src/image/import/packing.ts',
  'src/image/import/sparse-map.ts',
  'src/image/import/tar-header.ts',
  'src/image/import/tar-number.ts',
  'src/image/import/tar.ts',
  'src/image/import/zstd-frames.ts',
  'src/image/overlay-layout.ts',
  'src/image/qcow2.ts',
  'src/image/sniff.ts',
  'src/image/zero-runs.ts',
  'src/net/bandwidth/plan-limits.ts',
  'src/net/build/job-address.ts',
  'src/net/build/plan-address.ts',
  'src/net/build/plan-address6.ts',
  'src/net/build/plan-ports.ts',
  'src/net/dhcp/advertisement.ts',
  'src/net/dhcp/answer.ts',
  'src/net/dhcp/answer6.ts',
  'src/net/dhcp/message.ts',
  'src/net/dhcp/message6.ts',
  'src/net/dns/limits.ts',
  'src/net/dns/message.ts',
  'src/net/dns/zone.ts',
  'src/net/firewall/foreign-filters.ts',
  'src/net/firewall/legacy-rules.ts',
  'src/net/firewall/let-pass.ts',
  'src/net/firewall/listed-rule.ts',
  'src/net/group/group-rules.ts',
  'src/net/group/group-rules6.ts',
  'src/net/group/plan-pair.ts',
  'src/net/links/plan-bridge.ts',
  'src/net/links/plan-tap.ts',
  'src/net/model/names.ts',
  'src/net/model/network-attributes.ts',
  'src/net/rules/anti-spoofing.ts',
  'src/net/rules/anti-spoofing6.ts',
  'src/net/rules/changes.ts',
  'src/net/rules/metadata.ts',
  'src/net/rules/nft-text.ts',
  'src/net/rules/published-elsewhere.ts',
  'src/net/rules/ruleset.ts',
  'src/net/rules/ruleset6.ts',
  'src/net/rules/tracking.ts',
  'src/net/store/subnets.ts',
  'src/netlink/attributes.ts',
  'src/netlink/ip-bytes.ts',
  'src/netlink/linkinfo.ts',
  'src/netlink/message.ts',
  'src/qmp/agent-commands.ts',
  'src/qmp/commands.ts',
  'src/qmp/frame.ts',
  'src/qmp/journal.ts',
  'src/qmp/json-limits.ts',
  'src/qmp/message.ts',
  'src/cloudinit/',
];
const impureModules =
  /^node:(fs|fs\/promises|net|dgram|child_process|timers|timers\/promises|os|http|https|dns|worker_threads|process)$/;
const clock = /\b(Date\.now|new Date\(\)|performance\.now|setTimeout|setInterval|setImmediate)\b/;

/** Who may ask what time it is, for people to read or to compare with a file's; spans are measured without it. */
const wallClock: readonly string[] = [
  'src/image/store/checksums.ts',
  'src/net/store/decoded-files.ts',
  'src/plugin/serve/log.ts',
  'src/vm/start/boot.ts',
  'src/vm/live/machine.ts',
  'src/vm/live/shared-events.ts',
  'src/vm/live/act.ts',
  'src/vm/sweeper.ts',
  'src/vm/figures/figures.ts',
  'src/vm/live/task-events.ts',
];

interface Source {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
}

function sourcesBelow(folder: string): Source[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8');
      const found = text.matchAll(/(?:\bfrom\s+|\bimport\s+|\bimport\(\s*)'([^']+)'/g);
      return { path, text, imports: [...found].map((match) => match[1] ?? '') };
    });
}

const sources = sourcesBelow('src');
const roomOf = (path: string): string => path.split('/')[1] ?? '';
/** A room's folder, or a file at its top. */
const partOf = (path: string): string => path.split('/')[2] ?? '';

/** Whether an entry of a list is this file, or a folder (with a slash at its end) that contains it. */
function covers(entry: string, path: string): boolean {
  return path === entry || (entry.endsWith('/') && path.startsWith(entry));
}

/** File → files of the project that it imports, types included; doors are resolved. */
const everything = ['bin', 'src', 'demo', 'bench', 'scripts'].flatMap(sourcesBelow);
const graph = new Map(
  everything.map(({ path, imports }) => [
    path,
    imports.flatMap((specifier) => {
      if (specifier.startsWith('#')) return [`src/${specifier.slice(1)}/index.ts`];
      return specifier.startsWith('.')
        ? [relative(root, resolve(root, dirname(path), specifier))]
        : [];
    }),
  ]),
);

/** Files that reach themselves, smallest set first; imports of types count as well. */
function circles(): readonly string[] {
  const reach = (from: string): ReadonlySet<string> => {
    const seen = new Set<string>();
    const next = [...(graph.get(from) ?? [])];
    for (let path = next.pop(); path !== undefined; path = next.pop()) {
      if (seen.has(path)) continue;
      seen.add(path);
      next.push(...(graph.get(path) ?? []));
    }
    return seen;
  };
  return [...graph.keys()].filter((path) => reach(path).has(path)).toSorted();
}

test('no file imports itself through others, not even a type', () => {
  assert.deepEqual(circles(), []);
});

test('a door lists only what other rooms use', () => {
  const uses = new Map<string, Set<string>>();
  for (const { path, text } of everything) {
    for (const [, names = '', specifier = ''] of text.matchAll(
      /import(?: type)? \{([^}]*)\} from '(#[a-z]+)'/g,
    )) {
      const used = uses.get(specifier) ?? new Set();
      for (const name of names.split(',')) {
        used.add(
          name
            .trim()
            .replace(/^type /, '')
            .replace(/ as .*$/, ''),
        );
      }
      if (path !== `src/${specifier.slice(1)}/index.ts`) uses.set(specifier, used);
    }
    for (const [, name = '', specifier = ''] of text.matchAll(
      /const \{ (\w+) \} = await import\('(#[a-z]+)'\)/g,
    )) {
      uses.set(specifier, (uses.get(specifier) ?? new Set()).add(name));
    }
  }
  const idle = Object.keys(rooms).flatMap((room) => {
    const door = everything.find(({ path }) => path === `src/${room}/index.ts`)?.text ?? '';
    return [...door.matchAll(/export(?: type)? \{([^}]*)\}/g)]
      .flatMap(([, names = '']) => names.split(','))
      .map((name) =>
        name
          .trim()
          .replace(/^type /, '')
          .replace(/^.* as /, ''),
      )
      .filter((name) => name !== '' && !uses.get(`#${room}`)?.has(name))
      .map((name) => `#${room} ${name}`);
  });
  assert.deepEqual(idle, []);
});

test('rooms import only what the map allows, and only through doors', () => {
  const wrong = sources.flatMap(({ path, imports }) =>
    imports.flatMap((specifier) => {
      const own = roomOf(path);
      if (specifier.startsWith('#')) {
        return rooms[own]?.includes(specifier.slice(1)) ? [] : [`${path} imports ${specifier}`];
      }
      if (!specifier.startsWith('.')) return [];
      const target = relative(root, resolve(root, dirname(path), specifier));
      return target.startsWith(`src/${own}/`) ? [] : [`${path} reaches into ${target}`];
    }),
  );
  assert.deepEqual(wrong, []);
});

test('inside a room, folders import only what the map allows', () => {
  const wrong = sources.flatMap(({ path, imports }) => {
    const rows = folders[roomOf(path)];
    const own = partOf(path);
    if (rows === undefined || own === 'index.ts') return [];
    return imports.flatMap((specifier) => {
      if (!specifier.startsWith('.')) return [];
      const target = partOf(relative(root, resolve(root, dirname(path), specifier)));
      return target === own || rows[own]?.includes(target) ? [] : [`${path} imports ${specifier}`];
    });
  });
  assert.deepEqual(wrong, []);
});

test('the map of folders has every folder with sources, and its arrows lead down', () => {
  for (const [room, rows] of Object.entries(folders)) {
    const parts = sources
      .filter(({ path }) => roomOf(path) === room)
      .map(({ path }) => partOf(path));
    const names = Object.keys(rows);
    assert.deepEqual(new Set(parts), new Set([...names, 'index.ts']));
    for (const [index, [name, targets]] of Object.entries(rows).entries()) {
      const below = names.slice(index + 1);
      assert.deepEqual(
        targets.filter((target) => !below.includes(target)),
        [],
        `${room}/${name}`,
      );
    }
  }
});

test('docs/architecture.md names every folder of the map', () => {
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const [, begin = ''] = text.split('Four rooms consist of folders');
  const [part = ''] = begin.split('\n## ');
  for (const [room, rows] of Object.entries(folders)) {
    const wanted = Object.keys(rows).filter((name) => !name.endsWith('.ts'));
    const described = part.split('\n').find((line) => line.startsWith(`| \`${room}\``)) ?? part;
    assert.deepEqual(
      wanted.filter((name) => !described.includes(`\`${name}\``)),
      [],
      room,
    );
  }
});

test('docs/architecture.svg shows every folder of plugin and vm, generated code apart', () => {
  const picture = readFileSync(join(root, 'docs/architecture.svg'), 'utf8');
  const shown = ['plugin', 'vm'].flatMap((room) => Object.keys(folders[room] ?? {}));
  const wanted = shown.filter((name) => !name.endsWith('.ts') && name !== 'gen');
  assert.deepEqual(
    wanted.filter((name) => !picture.includes(`>${name}<`)),
    [],
  );
});

test('files that docs/architecture.md names exist, and have what it names in them', () => {
  const text = readFileSync(join(root, 'docs/architecture.md'), 'utf8');
  const paths = text.matchAll(/`((?:\w+\/)+[\w-]+(?:\.test)?\.ts)`/g);
  const named = new Set([...paths].map(([, path = '']) => path));
  // In the table of rooms a path is one of its row's room.
  const places = ['', 'src', ...Object.keys(rooms).map((room) => `src/${room}`)];
  const find = (path: string): string | undefined =>
    places.map((place) => join(root, place, path)).find((file) => existsSync(file));
  assert.deepEqual(
    [...named].filter((path) => find(path) === undefined),
    [],
  );
  const symbols = text.matchAll(/`(\w+)`(?:, `(\w+)`)? in `([\w/-]+\.ts)`/g);
  const missing = [...symbols].flatMap(([, one = '', other = '', path = '']) => {
    const source = readFileSync(find(path) ?? '', 'utf8');
    return [one, other]
      .filter((name) => name !== '' && !new RegExp(`\\b${name}\\b`).test(source))
      .map((name) => `${name} in ${path}`);
  });
  assert.deepEqual(missing, []);
});

test('every room of the map exists and there is no other', () => {
  const found = readdirSync(join(root, 'src'));
  assert.deepEqual(found.toSorted(), Object.keys(rooms).toSorted());
});

test('bin and the doors: bin imports rooms through their doors', () => {
  const wrong = sourcesBelow('bin').flatMap(({ path, imports }) =>
    imports
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => `${path} imports ${specifier}`),
  );
  assert.deepEqual(wrong, []);
});

test('a package is imported only where it may be', () => {
  const wrong = sources.flatMap(({ path, imports }) =>
    imports.flatMap((specifier) => {
      if (/^([.#]|node:)/.test(specifier)) return [];
      const name = specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/');
      const allowed = packages[name];
      if (allowed === undefined) return [`${path} imports the unlisted package ${name}`];
      return allowed.some((place) => path.startsWith(place)) ? [] : [`${path} imports ${name}`];
    }),
  );
  assert.deepEqual(wrong, []);
});

test('every file that the lists name exists', () => {
  const named = [...pure, ...wallClock, ...Object.values(packages).flat()];
  assert.deepEqual(
    named.filter((entry) => !sources.some(({ path }) => covers(entry, path))),
    [],
  );
});

test('pure files touch neither the system nor the clock', () => {
  const wrong = sources
    .filter(({ path }) => pure.some((entry) => covers(entry, path)))
    .flatMap(({ path, text, imports }) => [
      ...imports
        .filter((specifier) => impureModules.test(specifier))
        .map((it) => `${path} imports ${it}`),
      ...(clock.test(text) ? [`${path} reads the clock`] : []),
    ]);
  assert.deepEqual(wrong, []);
});

test('spans of time are measured with a clock that is never set', () => {
  const wrong = sources
    .filter(
      ({ path, text }) => /\bDate\.now\b|new Date\(\)/.test(text) && !wallClock.includes(path),
    )
    .map(({ path }) => path);
  assert.deepEqual(wrong, []);
});

test('a deadline ends with its wait: each is held by `using`', () => {
  const deadline = /(?<!using \w+ =[^;(]*|function )\bwithin\(.*|\bAbortSignal\.timeout\(.*/g;
  const wrong = sources.flatMap(({ path, text }) =>
    [...text.matchAll(deadline)].map(([found]) => `${path}: ${found}`),
  );
  assert.deepEqual(wrong, []);
});

test('doors list names one by one', () => {
  const wrong = sources
    .filter(({ path, text }) => path.endsWith('/index.ts') && /export \*/.test(text))
    .map(({ path }) => path);
  assert.deepEqual(wrong, []);
});

test('a folder is no heap: at most 20 files, generated code apart', () => {
  const sizes = Map.groupBy(
    sources.filter(({ path }) => !path.startsWith('src/plugin/gen/')),
    ({ path }) => dirname(path),
  );
  const heaps = [...sizes].filter(([, files]) => files.length > 20).map(([folder]) => folder);
  assert.deepEqual(heaps, []);
});

test('files stay readable: at most 250 lines, generated code apart', () => {
  const long = sources
    .filter(({ path }) => !path.startsWith('src/plugin/gen/'))
    .filter(({ text }) => text.split('\n').length > 251)
    .map(({ path }) => path);
  assert.deepEqual(long, []);
});

test('code and documents are in plain words: no "whoever", "nobody", "somebody", "deed" or "for ever"', () => {
  const vague = /.*\b(?:whoever|nobody|somebody|deeds?|omens?|for ever|told)\b.*/gi;
  const documents = globSync(['*.md', 'docs/*.md'], { cwd: root })
    // These have the list itself, and the titles of tests.
    .filter((path) => path !== 'CONTRIBUTING.md' && path !== 'docs/conformance.md')
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));
  const found = [...sources, ...documents].flatMap(({ path, text }) =>
    (text.match(vague) ?? []).map((line) => `${path}: ${line.trim()}`),
  );
  assert.deepEqual(found, []);
});

test('a time limit of a test grows with the load of the machine: patient(ms)', () => {
  const limit = /assert\.ok\([^;]*?(?:\bms\b|Ms\b|performance\.now)[^;]*?<=? [1-9][\d_]{1,4}[),]/;
  const bare = sourcesBelow('test')
    .filter(({ path }) => !path.endsWith('/architecture.test.ts'))
    .flatMap(({ path, text }) => (limit.exec(text) ?? []).map((line) => `${path}: ${line}`));
  assert.deepEqual(bare, []);
});

test('a time limit of a Nomad test grows with the load of the machine: patient(limit)', () => {
  const limit =
    /(?:must\.Less\(t, |time\.(?:After|Now\(\)\.Add)\(|Timeout(?:\(.*, |: ))(?:\d+ ?\* ?)?time\.Second\b.*|must\.Between\(.*[ *]time\.Second\)$/gm;
  const bare = globSync('test/nomad/*.go', { cwd: root }).flatMap((path) =>
    (readFileSync(join(root, path), 'utf8').match(limit) ?? []).map((line) => `${path}: ${line}`),
  );
  assert.deepEqual(bare, []);
});

test('a test is skipped through requireOrSkip alone, which fails in CI at the place', () => {
  const wrong = sourcesBelow('test')
    .filter(({ path }) => path !== 'test/support/require.ts')
    .filter(({ text }) => /\.skip\(|\bskip:|\.only\(|\bonly: true|\.todo\(/.test(text))
    .map(({ path }) => path);
  assert.deepEqual(wrong, []);
});
