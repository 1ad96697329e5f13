"""Writes to block devices, or into a mounted file system, in every way there is: all that a tracker has to
notice. Started with a JSON object:

  seed, threads, operations (of each thread), pauseMs (up to, after each)
  nodes       of a raw device: objects with `path` and `sizeBytes`; any of them is written to, in sectors of
              `sectorBytes`
  directory   instead of nodes: on the file system
  whole       whole nodes may be discarded, zeroed, and made new file systems of
  file        instead, a device too: `blocks` blocks of it, one for each `strideBytes` (a block), are written
              over and over, one after the other, each when the one before is durable, until this is killed.
              Each is its index and its generation, repeated. `pauseMs` (0) is for after each generation
  image       blocks of it are written to the only node, each once, in random order, for `durationMs`; the
              index of each is printed when its write has been answered
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import time

BLKDISCARD, BLKZEROOUT, FITRIM = 0x1277, 0x127F, 0xC0185879
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
PAGE, BYTES_MAX = 4096, 128 * 1024
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, offset, length) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def content(rng, length):
    # Now and then what was there is written again, or zeros.
    return bytes(length) if rng.randrange(8) == 0 else rng.randbytes(length)


def write_direct(fd, rng, offset, length):
    buffer = mmap.mmap(-1, length)
    buffer.write(content(rng, length))
    os.pwrite(fd, buffer, offset)


def write_mapped(fd, rng, size):
    at = rng.randrange(max(1, size // BYTES_MAX)) * BYTES_MAX
    length = min(BYTES_MAX, size - at)
    if length <= 0:
        return
    with mmap.mmap(fd, length, offset=at) as memory:
        for _ in range(1 + rng.randrange(4)):
            begin = rng.randrange(length)
            data = content(rng, min(length - begin, 1 + rng.randrange(9000)))
            memory[begin:begin + len(data)] = data
        if rng.randrange(2) == 0:
            memory.flush()


class Raw:
    def __init__(self, config, rng):
        self.nodes = [(node["path"], node["sizeBytes"]) for node in config["nodes"]]
        self.whole = config["whole"]
        self.sector = config.get("sectorBytes", 512)
        self.rng = rng

    def step(self):
        rng = self.rng
        path, size = rng.choice(self.nodes)
        # All at once is rare, and its own kind of event.
        if self.whole and rng.randrange(60) == 0:
            self.everything(path, size)
            return
        way = rng.choice(["direct", "direct", "buffered", "sync", "mapped", "discard", "zero", "punch"])
        offset = rng.randrange(size // self.sector) * self.sector
        length = min(size - offset, self.sector * (1 + rng.randrange(BYTES_MAX // self.sector)))
        flags = {"direct": os.O_DIRECT, "sync": os.O_SYNC}.get(way, 0)
        fd = os.open(path, os.O_RDWR | flags)
        try:
            if way == "direct":
                write_direct(fd, rng, offset, length)
            elif way in ("buffered", "sync"):
                begin = offset + rng.randrange(length)
                os.pwrite(fd, content(rng, offset + length - begin), begin)
                if rng.randrange(4) == 0:
                    os.fsync(fd)
            elif way == "mapped":
                write_mapped(fd, rng, size)
            elif way == "discard":
                length = min(length * rng.randrange(1, 20), size - offset)
                fcntl.ioctl(fd, BLKDISCARD, struct.pack("QQ", offset, length))
            elif way == "zero":
                fcntl.ioctl(fd, BLKZEROOUT, struct.pack("QQ", offset, length))
            else:
                fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        finally:
            os.close(fd)

    def everything(self, path, size):
        way = self.rng.choice(["discard", "zero", "ext4", "btrfs"])
        if way in ("discard", "zero"):
            # With an end that is no multiple of anything.
            fd = os.open(path, os.O_RDWR)
            try:
                fcntl.ioctl(fd, BLKDISCARD if way == "discard" else BLKZEROOUT, struct.pack("QQ", 0, size))
            finally:
                os.close(fd)
        else:
            force = "-F" if way == "ext4" else "-f"
            subprocess.run([f"mkfs.{way}", "-q", force, path], check=False, capture_output=True)


class Files:
    def __init__(self, config, rng):
        self.directory = config["directory"]
        self.size_max = config["fileBytesMax"]
        self.rng = rng

    def step(self):
        rng = self.rng
        path = os.path.join(self.directory, f"file-{rng.randrange(12)}")
        way = rng.choice(["direct", "direct", "buffered", "sync", "mapped", "punch", "zero", "truncate",
                          "unlink", "rename", "small", "append", "trim"])
        if way == "unlink":
            if rng.randrange(3) == 0 and os.path.exists(path):
                os.unlink(path)
        elif way == "rename":
            if os.path.exists(path):
                os.rename(path, os.path.join(self.directory, f"file-{rng.randrange(12)}"))
        elif way == "small":
            folder = os.path.join(self.directory, f"folder-{rng.randrange(6)}")
            os.makedirs(folder, exist_ok=True)
            for i in range(20):
                with open(os.path.join(folder, str(i)), "wb") as file:
                    file.write(content(rng, 1 + rng.randrange(3000)))
        elif way == "trim":
            if rng.randrange(3) == 0:
                fd = os.open(self.directory, os.O_RDONLY)
                try:
                    fcntl.ioctl(fd, FITRIM, struct.pack("QQQ", 0, 2**64 - 1, 0))
                finally:
                    os.close(fd)
        else:
            flags = {"direct": os.O_DIRECT, "sync": os.O_SYNC}.get(way, 0)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
            try:
                self.write(fd, way)
            finally:
                os.close(fd)

    def write(self, fd, way):
        rng = self.rng
        size = os.fstat(fd).st_size
        offset = rng.randrange(self.size_max // PAGE) * PAGE
        length = PAGE * (1 + rng.randrange(BYTES_MAX // PAGE))
        if way == "direct":
            write_direct(fd, rng, offset, length)
        elif way in ("buffered", "sync"):
            os.pwrite(fd, content(rng, length - rng.randrange(PAGE)), offset + rng.randrange(PAGE))
            if rng.randrange(3) == 0:
                os.fsync(fd)
        elif way == "append":
            if size < self.size_max:
                os.pwrite(fd, content(rng, 1 + rng.randrange(9000)), size)
        elif way == "mapped":
            if size > 0:
                write_mapped(fd, rng, size)
        elif way == "punch":
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        elif way == "zero":
            fallocate(fd, ZERO_RANGE | KEEP_SIZE, offset, length)
        else:
            os.ftruncate(fd, rng.randrange(self.size_max))


def copy_blocks(config, number):
    count = os.path.getsize(config["image"]) // PAGE
    blocks = [i for i in range(count) if i % config["threads"] == number]
    random.Random(config["seed"] * 101 + number).shuffle(blocks)
    image = os.open(config["image"], os.O_RDONLY)
    node = os.open(config["nodes"][0]["path"], os.O_RDWR | os.O_DIRECT)
    end = time.monotonic() + config["durationMs"] / 1000
    buffer = mmap.mmap(-1, PAGE)
    for block in blocks:
        if time.monotonic() > end:
            break
        buffer[:] = os.pread(image, PAGE, block * PAGE)
        os.pwrite(node, buffer, block * PAGE)
        os.write(1, f"{block}\n".encode())


def write_generations(config, _):
    file = os.open(config["file"], os.O_RDWR | os.O_CREAT, 0o644)
    pauses = random.Random(config["seed"])
    stride = config.get("strideBytes", PAGE)
    generation = 0
    while True:
        generation += 1
        for block in range(config["blocks"]):
            os.pwrite(file, struct.pack("<QQ", block, generation) * (PAGE // 16), block * stride)
            os.fdatasync(file)
        if generation == 1:
            os.write(1, b"first\n")
        time.sleep(pauses.random() * config.get("pauseMs", 0) / 1000)


# What others do beside it, or a full file system, is no failure of the test. EIO is what the kernel says when
# pages of the same place are dirty at the end of a direct write.
HARMLESS = {errno.ENOSPC, errno.ENOENT, errno.EOPNOTSUPP, errno.EBUSY, errno.EINVAL, errno.EIO}


def work(config, number):
    rng = random.Random(config["seed"] * 101 + number)
    target = Raw(config, rng) if "nodes" in config else Files(config, rng)
    for _ in range(config["operations"]):
        try:
            target.step()
        except OSError as error:
            if error.errno not in HARMLESS:
                raise
            if error.errno == errno.ENOSPC:
                for i in range(4):
                    try:
                        os.unlink(os.path.join(config["directory"], f"file-{i}"))
                    except OSError:
                        pass
        if config["pauseMs"] > 0:
            time.sleep(rng.random() * config["pauseMs"] / 1000)


def main():
    config = json.loads(sys.argv[1])
    failures = []

    def run(number):
        try:
            ways = {"image": copy_blocks, "file": write_generations}
            next((way for key, way in ways.items() if key in config), work)(config, number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(config["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


main()
