import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OptionText } from '../../src/plugin/args/option-text.ts';
import { optionKinds } from '../../src/plugin/args/options.ts';
import { readArgs } from '../../src/plugin/args/read-args.ts';

/** Each option at least once: what is asked for, or the message of what is refused. */
const cases: readonly (readonly [string, readonly unknown[] | RegExp])[] = [
  ['-m 512', [{ kind: 'memory', memoryMiB: 512 }]],
  ['-m size=2G,slots=2,maxmem=8G', [{ kind: 'memory', memoryMiB: 2048 }]],
  ['-m 1048576K', [{ kind: 'memory', memoryMiB: 1024 }]],
  ['-m lots', /^-m "lots" is not a size of memory$/],
  ['-smp 2', [{ kind: 'vcpus', count: 2 }]],
  ['-smp cpus=4,cores=2,threads=2,maxcpus=8', [{ kind: 'vcpus', count: 4 }]],
  ['-smp sockets=1,cores=2,threads=2', [{ kind: 'vcpus', count: 4 }]],
  ['-smp 0', /^-smp "0" is not a number of CPUs from 1 to 512$/],
  ['-cpu host,+vmx', []],
  [
    '-machine q35,accel=kvm:tcg,usb=off',
    [{ kind: 'machine', machine: 'q35' }, accelerator('auto')],
  ],
  ['-M type=pc', [{ kind: 'machine', machine: 'pc' }]],
  ['-machine pc,memory-encryption=sev0', /^-machine "memory-encryption" is not supported/],
  ['-machine accel=hvf', /^-machine "hvf" is not supported: use kvm or tcg$/],
  ['-accel tcg,thread=multi', [{ ...accelerator('tcg'), isAlternative: true }]],
  ['-enable-kvm', [accelerator('kvm')]],
  ['--enable-kvm', [accelerator('kvm')]],
  [
    '-smbios type=1,serial=ds=nocloud-net;s=http://10.0.2.2:8000/,product=a,,b',
    [
      {
        kind: 'smbios',
        fields: { product: 'a,b', serial: 'ds=nocloud-net;s=http://10.0.2.2:8000/' },
      },
    ],
  ],
  ['-smbios type=0,vendor=x', []],
  ['-smbios file=/etc/shadow', /^-smbios a file of tables is not read/],
  ['-rtc base=localtime,clock=host', [{ kind: 'clock', base: 'localtime' }]],
  ['-rtc base=2006-06-17', /^-rtc "2006-06-17" is not supported/],
  ['-localtime', [{ kind: 'clock', base: 'localtime' }]],
  ['-bios /usr/share/ovmf/OVMF.fd', [{ kind: 'uefi' }]],
  ['-bios /etc/shadow', /^-bios "\/etc\/shadow": the firmware is the host's/],
  ['-pflash OVMF_CODE.fd', [{ kind: 'uefi' }]],
  ['-pflash efivars.fd', [{ kind: 'uefi-variables', file: 'efivars.fd' }]],
  [
    '-bios /usr/share/OVMF/OVMF_VARS.fd',
    /^-bios "\/usr\/share\/OVMF\/OVMF_VARS.fd": the firmware is/,
  ],
  ['-global driver=cfi.pflash01,property=secure,value=on', []],
  ['-global ICH9-LPC.disable_s3=1', []],
  ['-global kvm-pit.lost_tick_policy=delay', []],
  [
    '-global virtio-net-pci.romfile=/etc/shadow',
    /^-global "virtio-net-pci.romfile" is not supported/,
  ],
  ['-watchdog i6300esb', [{ kind: 'watchdog' }]],
  ['-watchdog-action poweroff', [{ kind: 'watchdog', action: 'poweroff' }]],
  ['-action watchdog=pause', [{ kind: 'watchdog', action: 'pause' }]],
  ['-action reboot=shutdown', [{ kind: 'no-reboot' }]],
  ['-action reboot=none', /^-action reboot=none is not supported: use reset or shutdown$/],
  [
    '-fw_cfg name=opt/com.coreos/config,file=local/config.ign',
    [{ kind: 'ignition', userData: 'local/config.ign' }],
  ],
  ['-fw_cfg opt/com.coreos/config,string={}', [{ kind: 'ignition', userData: '{}' }]],
  ['-fw_cfg name=opt/x,file=/etc/shadow', /^-fw_cfg "opt\/x" is not supported: only opt\/com/],
  ['-fw_cfg name=opt/com.coreos/config', /^-fw_cfg has no file$/],
  ['-action panic=pause', /^-action "panic" is not supported/],
  ['-no-reboot', [{ kind: 'no-reboot' }]],
  [
    '-drive file=a,,b.img,if=virtio,format=qcow2',
    [drive({ file: 'a,b.img', bus: 'virtio', format: 'qcow2' })],
  ],
  [
    '-drive file=/images/a.iso,media=cdrom',
    [drive({ file: '/images/a.iso', cdrom: true, readOnly: true })],
  ],
  [
    '-drive if=none,id=d0,file=a,cache=none,aio=native,serial=x,readonly=on,index=3',
    [
      drive({
        id: 'd0',
        bus: 'none',
        file: 'a',
        cache: 'none',
        aio: 'native',
        serial: 'x',
        readOnly: true,
      }),
    ],
  ],
  ['-drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd', [{ kind: 'uefi' }]],
  ['-drive file=/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2,if=pflash,unit=0', [{ kind: 'uefi' }]],
  ['-drive if=pflash,file=local/flash0.img,format=raw', [{ kind: 'uefi' }]],
  [
    '-drive if=pflash,format=raw,unit=1,file=local/OVMF_VARS.fd,snapshot=on',
    [{ kind: 'uefi-variables', file: 'local/OVMF_VARS.fd' }],
  ],
  [
    '-drive if=pflash,format=raw,file=/alloc/nvram.bin',
    [{ kind: 'uefi-variables', file: '/alloc/nvram.bin' }],
  ],
  ['-drive file=a.vmdk,format=vmdk', [drive({ file: 'a.vmdk', format: 'vmdk' })]],
  ['-drive file=a.vdi,driver=vdi', [drive({ file: 'a.vdi', format: 'vdi' })]],
  ['-drive file=a,format=qed', /^-drive format=qed is not supported: use raw, qcow2, vmdk, vdi, /],
  [
    '-drive file=fat:/local/seed,if=virtio',
    [drive({ file: '/local/seed', bus: 'virtio', readOnly: true, ...labelled('QEMU VVFAT') })],
  ],
  [
    '-drive file=fat:16:rw:/local/seed,format=raw',
    [drive({ file: '/local/seed', ...labelled('QEMU VVFAT') })],
  ],
  [
    '-drive file=fat:rw:seed,readonly=on,file.label=cidata',
    [drive({ file: 'seed', readOnly: true, ...labelled('cidata') })],
  ],
  [
    '-drive driver=vvfat,dir=seed,rw=on,fat-type=32,label=CIDATA,if=none,id=s',
    [drive({ id: 's', bus: 'none', file: 'seed', ...labelled('CIDATA') })],
  ],
  [
    '-drive file.driver=vvfat,file.dir=seed,file.rw=off',
    [drive({ file: 'seed', readOnly: true, ...labelled('QEMU VVFAT') })],
  ],
  ['-drive file=fat:floppy:seed', /^-drive guests have no floppy/],
  ['-drive driver=vvfat,dir=seed,floppy=on', /^-drive guests have no floppy/],
  ['-drive file=fat:', /^-drive names no directory$/],
  ['-drive file=fat:seed,file.label=a/b', /^-drive label="a\/b" is no label of at most 11/],
  ['-drive file=a,label=x', /^-drive "label" is not supported/],
  ['-drive file.driver=http,file.url=http://a', /^-drive "file.url" is not supported/],
  ['-drive file=json:{"driver":"file"}', /^-drive use `disk`$/],
  ['-drive file=http://a/b', /^-drive "http:\/\/a\/b" is no file; use an artifact$/],
  ['-drive if=floppy,file=a', /^-drive if=floppy is not supported: use ide, scsi or virtio$/],
  [
    '-drive file=a,backing.file.filename=/etc/shadow',
    /^-drive "backing.file.filename" is not supported/,
  ],
  ['-cdrom a.iso', [drive({ file: 'a.iso', cdrom: true, readOnly: true })]],
  ['-hda a', [drive({ file: 'a', bus: 'ide' })]],
  ['-hdb a', [drive({ file: 'a', bus: 'ide' })]],
  [
    '-hdb fat:seed',
    [drive({ file: 'seed', bus: 'ide', readOnly: true, ...labelled('QEMU VVFAT') })],
  ],
  ['-hdc a', [drive({ file: 'a', bus: 'ide' })]],
  ['-hdd a', [drive({ file: 'a', bus: 'ide' })]],
  ['-boot d', [{ kind: 'cdrom-first' }]],
  ['-kernel local/vmlinuz', [{ kind: 'kernel', file: 'local/vmlinuz' }]],
  ['-initrd local/initrd,x', [{ kind: 'initrd', file: 'local/initrd,x' }]],
  ['-append console=ttyS0,115200', [{ kind: 'append', text: 'console=ttyS0,115200' }]],
  [`-append ${'x'.repeat(4097)}`, /^-append has 4097 characters, the maximum is 4096$/],
  ['-boot once=d,menu=on', [{ kind: 'cdrom-first' }]],
  ['-boot order=cd', []],
  ['-snapshot', [{ kind: 'snapshot' }]],
  [
    '-netdev user,id=n0,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:53-10.0.2.15:53',
    [
      {
        kind: 'netdev',
        id: 'n0',
        forwards: [forward('', 2222, 22), forward('127.0.0.1', 53, 53, 'udp')],
      },
    ],
  ],
  ['-netdev tap,id=n0,ifname=tap0', [{ kind: 'netdev', id: 'n0', bridge: 'br0', forwards: [] }]],
  ['-netdev tap,id=n0,ifname=tap0,script=no,downscript=no', /^-netdev the host has no tap for/],
  ['-netdev tap,id=n0,fd=3', /^-netdev "fd" is not supported/],
  ['-netdev socket,id=n0,listen=:1', /^-netdev "socket" is not supported: use "bridge,br=NAME"/],
  ['-device pcnet,netdev=n0', [{ kind: 'card', netdev: 'n0', model: 'pcnet' }]],
  ['-net nic,model=ne2k_pci', [{ kind: 'card', netdev: undefined, model: 'ne2k_pci' }]],
  ['-netdev bridge,id=n0', [{ kind: 'netdev', id: 'n0', bridge: 'br0', forwards: [] }]],
  [
    '-netdev tap,id=n0,br=virbr0,helper=/usr/lib/qemu/qemu-bridge-helper,vhost=on',
    [{ kind: 'netdev', id: 'n0', bridge: 'virbr0', forwards: [] }],
  ],
  ['-netdev bridge,id=n0,br=../../etc', /^-netdev "\.\.\/\.\.\/etc" is no bridge's name$/],
  ['-net bridge,br=br1', [{ kind: 'netdev', id: undefined, bridge: 'br1', forwards: [] }]],
  [
    '-nic bridge,br=br1,model=virtio,id=n1',
    [
      { kind: 'netdev', id: 'n1', bridge: 'br1', forwards: [] },
      { kind: 'card', netdev: 'n1', model: 'virtio' },
    ],
  ],
  ['-netdev user,id=n0,guestfwd=tcp:10.0.2.100:80-cmd:id', /^-netdev "guestfwd" is not supported/],
  ['-netdev user,id=n0,smb=/etc', /^-netdev "smb" is not supported/],
  [
    '-netdev user,id=n0,net=192.168.76.0/24,host=192.168.76.1,dns=8.8.8.8,dhcpstart=192.168.76.9,hostfwd=tcp::2222-192.168.76.9:22',
    [{ kind: 'netdev', id: 'n0', forwards: [forward('', 2222, 22)] }],
  ],
  [
    '-netdev user,id=n0,hostfwd=tcp:[::1]:2222-:22,hostfwd=tcp:2001:db8::1:2223-[fec0::15]:23,hostfwd=tcp:[::]:24-:24',
    [
      {
        kind: 'netdev',
        id: 'n0',
        forwards: [forward('::1', 2222, 22), forward('2001:db8::1', 2223, 23), forward('', 24, 24)],
      },
    ],
  ],
  ['-netdev user,hostfwd=tcp:here:1-:2', /^-netdev "here" is not an address of the host$/],
  ['-netdev user,id=n0,hostfwd=tcp::0-:22', /^-netdev "tcp::0-:22" forwards no port/],
  [
    '-nic user,model=e1000,mac=52:54:00:12:34:56',
    [
      { kind: 'netdev', id: undefined, forwards: [] },
      { kind: 'card', netdev: undefined, model: 'e1000', mac: '52:54:00:12:34:56' },
    ],
  ],
  ['-nic none', [{ kind: 'no-network' }]],
  [
    '-net nic,model=rtl8139,macaddr=52:54:00:12:34:56,vlan=0',
    [{ kind: 'card', netdev: undefined, model: 'rtl8139', mac: '52:54:00:12:34:56' }],
  ],
  [
    '-net user,hostfwd=tcp::80-:80',
    [{ kind: 'netdev', id: undefined, forwards: [forward('', 80, 80)] }],
  ],
  ['-net none', [{ kind: 'no-network' }]],
  [
    '-net nic,macaddr=01:00:5e:00:00:01',
    /^-net "01:00:5e:00:00:01" is a group address: the first byte of a card is even$/,
  ],
  // A tap of the host has the guest's address with this byte.
  ['-net nic,macaddr=fe:54:00:12:34:56', /^-net "fe:54:00:12:34:56" begins with fe, which is for /],
  ['-redir tcp:2222::22', [{ kind: 'netdev', id: undefined, forwards: [forward('', 2222, 22)] }]],
  [
    '-device virtio-net-pci,netdev=n0,mac=52:54:00:AA:bb:cc,id=x',
    [{ kind: 'card', netdev: 'n0', model: 'virtio', mac: '52:54:00:aa:bb:cc' }],
  ],
  [
    '-device virtio-blk-pci,drive=image0,bootindex=1',
    [{ kind: 'drive-device', drive: 'image0', bus: 'virtio', cdrom: false, bootIndex: 1 }],
  ],
  ['-device virtio-rng-pci', []],
  ['-device virtio-balloon', []],
  [
    '-device virtserialport,chardev=qga0,name=org.qemu.guest_agent.0',
    [{ kind: 'agent-port', chardev: 'qga0' }],
  ],
  ['-device virtserialport,chardev=c,name=com.redhat.spice.0', []],
  [
    '-device virtserialport,chardev=c,name=org.libguestfs.channel.0',
    /the port "org.libguestfs.channel.0" is not supported/,
  ],
  ['-chardev spicevmc,id=c,name=vdagent', [{ kind: 'chardev', id: 'c', opens: undefined }]],
  ['-device virtio-9p-pci,fsdev=f,mount_tag=t', [{ kind: 'share-device', fsdev: 'f', tag: 't' }]],
  ['-device i6300esb', [{ kind: 'watchdog' }]],
  [
    '-device vfio-pci,host=01:00.0',
    /^-device the device "vfio-pci" is not supported: devices of the host/,
  ],
  ['-device unheard-of', /^-device the device "unheard-of" is not supported/],
  [
    '-virtfs local,path=/local,mount_tag=t,security_model=none',
    [{ kind: 'share', id: undefined, path: '/local', tag: 't' }],
  ],
  ['-virtfs proxy,socket=/x,mount_tag=t', /^-virtfs "proxy" is not supported: use local$/],
  [
    '-fsdev local,id=f,path=/local,security_model=mapped',
    [{ kind: 'share', id: 'f', path: '/local', tag: undefined }],
  ],
  ['-nodefaults', [{ kind: 'no-defaults' }]],
  ['-serial mon:stdio', []],
  ['-serial tcp::4444,server', /^-serial "tcp::4444,server" is a file or socket of the host/],
  ['-monitor none', []],
  ['-monitor unix:/tmp/m,server', /^-monitor "unix:\/tmp\/m,server" is a file or socket/],
  ['-parallel none', []],
  ['-debugcon stdio', []],
  ['-debugcon file:/tmp/x', /^-debugcon "file:\/tmp\/x" is a file or socket of the host/],
  ['-no-kvm', [accelerator('tcg')]],
  ['-chardev socket,path=/x,id=c', [{ kind: 'chardev', id: 'c', opens: 'socket' }]],
  ['-chardev stdio,id=c', [{ kind: 'chardev', id: 'c', opens: undefined }]],
  ['-nographic', []],
  ['-vnc :1', [{ kind: 'vnc', port: 5901, wasOpen: true }]],
  ['-vnc [::1]:1', [{ kind: 'vnc', port: 5901 }]],
  ['-vnc unix:/tmp/vnc', [{ kind: 'vnc', port: undefined }]],
  ['-vnc none', []],
  ['-vnc none,ipv4', []],
  ['-vnc localhost:1,ipv6=on', [{ kind: 'vnc', port: 5901 }]],
  ['-vnc host:1,websocket=on', /^-vnc "websocket" is not supported/],
  ['-vga std', [{ kind: 'video', video: 'std' }]],
  ['-vga virtio', [{ kind: 'video', video: 'virtio' }]],
  ['-display none', []],
  ['-display vnc=127.0.0.1:2', [{ kind: 'vnc', port: 5902 }]],
  ['-display gtk', /^-display "gtk" is not supported: use none, or -vnc$/],
  ['-object rng-random,id=r,filename=/dev/urandom', []],
  ['-object secret,id=s,file=/x', /^-object "secret" is not supported/],
  ['disk.img', /^"disk.img" is no option: write the disk as image_path/],
  ['-frobnicate', /^"-frobnicate" is not known/],
];

function accelerator(it: string) {
  return { kind: 'accelerator', accelerator: it };
}

function drive(change: Record<string, unknown>) {
  return { kind: 'drive', id: undefined, bus: undefined, cdrom: false, readOnly: false, ...change };
}

function labelled(label: string) {
  return { directory: { label } };
}

function forward(hostIp: string, hostPort: number, guestPort: number, protocol = 'tcp') {
  return { hostIp, hostPort, guestPort, protocol };
}

for (const [line, expected] of cases) {
  test(`V-136: ${line}`, () => {
    const { wishes, problems } = readArgs(line.split(' '));
    const texts = problems.map(({ text }) => text);
    if (expected instanceof RegExp) {
      assert.deepEqual(wishes, []);
      assert.match(texts.join('\n'), expected);
      return;
    }
    assert.deepEqual(texts, []);
    assert.deepEqual(
      wishes.map(({ at: _, ...wish }) => wish),
      expected,
    );
  });
}

test('V-136: every option is among the cases or has no effect, and states what becomes of it', () => {
  const tested = new Set(cases.map(([line]) => line.split(' ')[0]?.replace(/^--?/, '')));
  for (const { names, becomes, value, read } of optionKinds) {
    assert.ok(becomes.length > 10, names[0]);
    for (const name of names) {
      const { problems } = readArgs(value === undefined ? [`-${name}`] : [`-${name}`, value]);
      if (read === undefined) {
        assert.match(problems[0]?.text ?? '', new RegExp(`^-${name} is not supported: `));
      } else {
        assert.ok(tested.has(name) || becomes.startsWith('No effect'), `-${name} has no case`);
        if (value !== '…') assert.deepEqual(problems, [], name);
      }
    }
  }
  const names = optionKinds.flatMap((kind) => kind.names);
  assert.equal(new Set(names).size, names.length, 'an option is in the table twice');
});

test('V-136: every option of QEMU 7.2 is in the table', () => {
  const help =
    'h help version machine M cpu accel smp numa add-fd set global boot m mem-path mem-prealloc k audio-help audio ' +
    'audiodev device name uuid fda fdb hda hdb hdc hdd cdrom blockdev drive mtdblock sd snapshot fsdev virtfs iscsi usb ' +
    'usbdevice display nographic curses sdl spice portrait rotate vga full-screen vnc win2k-hack no-fd-bootchk no-acpi ' +
    'no-hpet acpitable smbios netdev nic net chardev tpmdev kernel append initrd dtb compat fw_cfg serial parallel ' +
    'monitor qmp qmp-pretty mon debugcon pidfile preconfig S overcommit gdb s d D dfilter seed L bios enable-kvm ' +
    'xen-domid xen-attach xen-domid-restrict no-reboot no-shutdown action loadvm daemonize option-rom rtc icount ' +
    'watchdog watchdog-action echr incoming only-migratable nodefaults chroot runas sandbox readconfig no-user-config ' +
    'trace plugin async-teardown run-with msg dump-vmstate enable-sync-profile object';
  const known = optionKinds.flatMap(({ names }) => names);
  assert.deepEqual(
    help.split(' ').filter((name) => !known.includes(name)),
    [],
  );
});

test('V-136: all problems are reported, each with its place, and an option takes its value', () => {
  const { problems } = readArgs(['-vnc', '-m', '-dtb', 'x', '-smp 2', '-m']);
  assert.deepEqual(
    problems.map(({ at, text }) => `${at} ${text.slice(0, 40)}`),
    [
      '0 -vnc "-m" is no display: write "127.0.0.',
      '2 -dtb is not supported: there is no key f',
      '4 "-smp 2": an option and its value are tw',
      '5 -m has no value',
    ],
  );
});

test('V-136: key=value texts are read as QEMU reads them', () => {
  const option = new OptionText('a,,b,file=x,,y,flag,n=1,n=2,empty=', 'first');
  assert.equal(option.take('first'), 'a,b');
  assert.equal(option.take('file'), 'x,y');
  assert.equal(option.takeSwitch('flag'), true);
  assert.deepEqual(option.takeAll('n'), ['1', '2']);
  assert.equal(option.take('empty'), '');
  assert.deepEqual(option.rest, []);
  assert.equal(option.take('none'), undefined);
});

test('V-136: values with commas come back whole, whatever they are', () => {
  const value = fc.string({ unit: fc.constantFrom('a', ',', '=', ' ', '"', ';') });
  fc.assert(
    fc.property(fc.array(value, { minLength: 1 }), (values) => {
      const text = values.map((it, index) => `k${index}=${it.replaceAll(',', ',,')}`).join(',');
      const option = new OptionText(text);
      assert.deepEqual(
        values.map((_, index) => option.take(`k${index}`)),
        values,
      );
      assert.deepEqual(option.rest, []);
    }),
  );
});

test('V-136: no list of arguments makes the reader fail', () => {
  const names = optionKinds.flatMap((kind) => kind.names.map((name) => `-${name}`));
  const samples = cases.flatMap(([line]) => line.split(' '));
  const arg = fc.oneof(fc.constantFrom(...names), fc.constantFrom(...samples), fc.string());
  fc.assert(
    fc.property(fc.array(arg), (args) => {
      const { wishes, problems } = readArgs(args);
      for (const { at } of [...wishes, ...problems]) assert.ok(at >= 0 && at < args.length);
    }),
    { numRuns: 2000 },
  );
});
