"""A file system in memory that writes down which thread each of its requests came from, as `opcode tid` in each line."""
import ctypes, os, struct, sys, time

path, files = sys.argv[1], sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
fuse = os.open('/dev/fuse', os.O_RDWR)
options = 'fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions' % fuse
if libc.mount(b'watched', path.encode(), b'fuse', 0, options.encode()): sys.exit('mount: %d' % ctypes.get_errno())

DIRECTORY, FILE = 0o40755, 0o100644
ENOENT, EEXIST, ENOSYS, ENOTEMPTY = 2, 17, 38, 39


class Node:
    def __init__(self, mode, data=b''):
        self.mode, self.uid, self.gid, self.links = mode, 0, 0, 1
        self.data, self.names = bytearray(data), {}


nodes = {1: Node(DIRECTORY)}


def add(parent, name, node):
    number = max(nodes) + 1
    nodes[number] = node
    nodes[parent].names[name] = number
    return number


for file in files:
    with open(file, 'rb') as content:
        add(1, os.path.basename(file).encode(), Node(FILE, content.read()))


def attributes(number):
    node = nodes[number]
    size = len(node.data)
    blocks = (size + 511) // 512
    return struct.pack('<6Q10I', number, size, blocks, 0, 0, 0, 0, 0, 0, node.mode, node.links, node.uid, node.gid, 0, 4096, 0)


def entry(number):
    # Nothing may be kept by the kernel: each question comes here.
    return struct.pack('<4QII', number, 0, 0, 0, 0, 0) + attributes(number)


def attr(number):
    return struct.pack('<QII', 0, 0, 0) + attributes(number)


OPENED = struct.pack('<QII', 0, 0, 0)


def change(number, body):
    valid, _, _, size = struct.unpack_from('<IIQQ', body)
    mode, _, uid, gid = struct.unpack_from('<4I', body, 68)
    node = nodes[number]
    if valid & 1: node.mode = node.mode & 0o170000 | mode & 0o7777
    if valid & 2: node.uid = uid
    if valid & 4: node.gid = gid
    if valid & 8: node.data[size:] = bytes(max(0, size - len(node.data)))
    return attr(number)


def listing(number, body):
    _, offset, size = struct.unpack_from('<QQI', body)
    found = b''
    for at, (name, child) in enumerate(nodes[number].names.items()):
        if at < offset: continue
        one = struct.pack('<QQII', child, at + 1, len(name), nodes[child].mode >> 12) + name
        one += bytes(-len(one) % 8)
        if len(found) + len(one) > size: break
        found += one
    return found


def write(number, body):
    _, offset, size = struct.unpack_from('<QQI', body)
    data = nodes[number].data
    if offset > len(data): data.extend(bytes(offset - len(data)))
    data[offset:offset + size] = body[40:40 + size]
    return struct.pack('<II', size, 0)


def grow(number, body):
    _, offset, length, mode, _ = struct.unpack_from('<QQQII', body)
    data = nodes[number].data
    if mode > 1: return -95
    # 1 keeps the size, and space is not counted here.
    if mode == 0: data.extend(bytes(max(0, offset + length - len(data))))
    return b''


def remove(number, name):
    if name not in nodes[number].names: return -ENOENT
    child = nodes[number].names.pop(name)
    nodes[child].links -= 1
    return b''


def made(number, name, node):
    if name in nodes[number].names: return -EEXIST
    return entry(add(number, name, node))


def answer(opcode, number, body):
    name = body.split(b'\0')[0]
    here = nodes[number].names if number in nodes else {}
    if opcode == 26: return struct.pack('<IIIIHHIIHHI7I', 7, 31, 1 << 16, 0, 1, 1, 1 << 17, 1, 1, 0, 0, *[0] * 7)
    if opcode == 1: return entry(here[name]) if name in here else -ENOENT
    if opcode == 3: return attr(number)
    if opcode == 4: return change(number, body)
    if opcode == 9:
        return made(number, body[8:].split(b'\0')[0], Node(0o40000 | struct.unpack_from('<I', body)[0] & 0o7777))
    if opcode in (10, 11): return remove(number, name)
    if opcode == 13:
        (old,), new = struct.unpack_from('<Q', body), body[8:].split(b'\0')[0]
        if new in here: return -EEXIST
        here[new] = old
        nodes[old].links += 1
        return entry(old)
    if opcode in (14, 27): return OPENED
    if opcode == 15:
        _, offset, size = struct.unpack_from('<QQI', body)
        return bytes(nodes[number].data[offset:offset + size])
    if opcode == 16: return write(number, body)
    if opcode == 17: return struct.pack('<5Q4I6I', 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, *[0] * 7)
    if opcode in (18, 20, 25, 29, 30): return b''
    if opcode == 28: return listing(number, body)
    if opcode == 35:
        flags, mode = struct.unpack_from('<II', body)
        found = made(number, body[16:].split(b'\0')[0], Node(0o100000 | mode & 0o7777))
        return found if isinstance(found, int) else found + OPENED
    if opcode == 43: return grow(number, body)
    return -ENOSYS


print('ready', flush=True)
while True:
    try:
        request = os.read(fuse, 1 << 18)
    except OSError:
        break
    _, opcode, unique, number, _, _, tid = struct.unpack_from('<IIQQIII', request)
    if opcode in (2, 36, 42): continue
    print(opcode, tid, flush=True)
    given = answer(opcode, number, request[40:])
    code, body = (given, b'') if isinstance(given, int) else (0, given)
    try:
        os.write(fuse, struct.pack('<IiQ', 16 + len(body), code, unique) + body)
    except OSError:
        pass
