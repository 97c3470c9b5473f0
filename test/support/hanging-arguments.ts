import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';

/**
 * A file system whose one file answers no read, mounted where nobody else sees it, and a process that holds the lock of
 * its own memory while it waits for a page of that file: reading its arguments waits as well (get_mm_cmdline in
 * fs/proc/base.c). Mounting is all that root is needed for, and users may do that in a namespace of theirs.
 */
const program = `
import ctypes, os, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
uid, hidden = int(sys.argv[1]), sys.argv[2] == 'hidden'

def must(result):
    if result in (-1, 2 ** 64 - 1): raise OSError(ctypes.get_errno(), 'system call')

must(libc.unshare(0x20000))
must(libc.mount(b'none', b'/', None, 0x44000, None))
fuse = os.open('/dev/fuse', os.O_RDWR)
options = 'fd=%d,rootmode=40000,user_id=%d,group_id=%d' % (fuse, uid, uid)
must(libc.mount(b'hang', b'/mnt', b'fuse', 0, options.encode()))

def attributes(node):
    mode = 0o40755 if node == 1 else 0o100644
    return struct.pack('<6Q10I', node, 1 << 20, 0, 0, 0, 0, 0, 0, 0, mode, 1, uid, uid, 0, 4096, 0)

def serve():
    while True:
        request = os.read(fuse, 1 << 20)
        _, opcode, unique, node = struct.unpack_from('<IIQQ', request)
        answers = {
            26: struct.pack('<IIIIHHIIHHI7I', 7, 31, 1 << 16, 0, 1, 1, 4096, 1, 1, 0, 0, *[0] * 7),
            1: struct.pack('<4QII', 2, 0, 60, 60, 0, 0) + attributes(2),
            3: struct.pack('<QII', 60, 0, 0) + attributes(node),
            14: struct.pack('<QII', 1, 0, 0),
        }
        if opcode == 15:
            os.write(asked[1], b'.')
            read.set()
            continue
        body = answers.get(opcode)
        head = struct.pack('<IiQ', 16 + len(body or b''), 0 if body else -38, unique)
        os.write(fuse, head + (body or b''))

def hang():
    memory = os.open('/proc/self/mem', os.O_RDONLY)
    os.setgid(uid)
    os.setuid(uid)
    libc.prctl(4, 0 if hidden else 1, 0, 0, 0)
    file = os.open('/mnt/file', os.O_RDONLY)
    page = libc.mmap(None, 4096, 1, 2, file, 0)
    # Held for reading for as long as the page does not come, and from then on wanted for writing.
    threading.Thread(target=lambda: os.pread(memory, 1, page)).start()
    os.read(asked[0], 1)
    libc.mmap(None, 4096, 1, 0x22, -1, 0)

def state(pid):
    return open('/proc/%d/stat' % pid).read().rsplit(')', 1)[1].split()[0]

asked = os.pipe()
read = threading.Event()
victim = os.fork()
if victim == 0:
    os.close(fuse)
    hang()
threading.Thread(target=serve).start()
# It waits in that state for other answers of the file system as well.
read.wait()
while state(victim) != 'D': time.sleep(0.01)
print(victim, flush=True)
`;

/** Starts such a process of this user, and returns its pid. It ends with the test. */
export async function hangingArguments(
  t: TestContext,
  { uid, mark, hidden }: { readonly uid: number; readonly mark: string; readonly hidden: boolean },
): Promise<number> {
  const args = ['-c', program, String(uid), hidden ? 'hidden' : 'plain', mark];
  const child = spawn('python3', args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  t.after(() => endGroup(child));
  const [line] = await once(child.stdout, 'data');
  return Number(line);
}

async function endGroup(child: ChildProcess): Promise<void> {
  if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}
