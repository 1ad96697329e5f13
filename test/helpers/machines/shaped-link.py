#!/usr/bin/env python3
"""A slow, long, lossy link between two network namespaces, which can be cut: two TUN devices, and this program between them.

shaped-link.py NAMESPACE NAMESPACE: makes both, with 192.0.2.1 in the first and 192.0.2.2 in the second, and removes them when its
standard input ends. Commands are lines of JSON on it, each answered by a line with the counters:

  {"set": {"rate": BITS_PER_SECOND or null, "delay": SECONDS_EACH_WAY, "loss": 0..1, "queue": BYTES, "seed": N}}
  {"flap": {"up": SECONDS, "down": SECONDS, "reset": BOOLEAN}} or {"flap": null}     cut again and again; reset: connections are ended too
  {"count": null}
"""
import collections
import ctypes
import fcntl
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
MTU = 1500
LIBC = ctypes.CDLL(None, use_errno=True)
HOME = os.open("/proc/self/ns/net", os.O_RDONLY)


def enter(namespace):
    if LIBC.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a namespace can't be entered")


def tun(namespace, address):
    """A TUN device stays in the namespace that it was made in, and its descriptor works from everywhere."""
    inside = os.open("/run/netns/" + namespace, os.O_RDONLY)
    enter(inside)
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN_NO_PI))
    finally:
        enter(HOME)
        os.close(inside)
    for command in (
        ["addr", "add", address + "/30", "dev", "wire"],
        ["link", "set", "wire", "up", "mtu", str(MTU)],
        ["link", "set", "lo", "up"],
    ):
        subprocess.run(["ip", "-n", namespace] + command, check=True)
    return device


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def reset_packet(source, target, source_port, target_port, sequence):
    pseudo = source + target + struct.pack("!HH", 6, 20)
    head = struct.pack("!HHIIBB", source_port, target_port, sequence, 0, 5 << 4, 4)
    tcp = head + struct.pack("!HHH", 0, checksum(pseudo + head + bytes(6)), 0)
    ip = struct.pack("!BBHHHBB", 0x45, 0, 40, 0, 0, 64, 6)
    return ip + struct.pack("!H", checksum(ip + bytes(2) + source + target)) + source + target + tcp


class Way:
    """One direction: packets wait until they are sent, one after the other, and then travel."""

    def __init__(self, device_from, device_to):
        self.device_from, self.device_to = device_from, device_to
        self.travelling = collections.deque()
        self.free_at = 0.0
        self.bytes = self.packets = self.lost = self.overflowed = 0
        self.acknowledged = {}  # by connection: what the sender of these packets expects next

    def take(self, packet, now, link):
        self.note(packet)
        if link.is_down:
            return
        start = max(now, self.free_at)
        if link.rate is not None:
            if (start - now) * link.rate / 8 > link.queue:
                self.overflowed += 1
                return
            self.free_at = start + len(packet) * 8 / link.rate
        self.bytes += len(packet)
        self.packets += 1
        is_lost = link.random.random() < link.loss
        self.travelling.append(((self.free_at if link.rate is not None else now) + link.delay, packet, is_lost))

    def note(self, packet):
        if len(packet) < 40 or packet[0] != 0x45 or packet[9] != 6 or not packet[33] & 0x10:
            return
        ports = struct.unpack("!HH", packet[20:24])
        connection = (packet[16:20], packet[12:16], ports[1], ports[0])
        if packet[33] & 0x05:
            self.acknowledged.pop(connection, None)
        else:
            self.acknowledged[connection] = struct.unpack("!I", packet[28:32])[0]

    def deliver(self, now):
        while self.travelling and self.travelling[0][0] <= now:
            _, packet, is_lost = self.travelling.popleft()
            if is_lost:
                self.lost += 1
            else:
                write(self.device_to, packet)


def write(device, packet):
    try:
        os.write(device, packet)
    except OSError:
        pass  # It is full: one more that is lost.


class Link:
    def __init__(self, ways):
        self.ways = ways
        self.rate, self.delay, self.loss, self.queue = None, 0.0, 0.0, 1 << 20
        self.random = random.Random(1)
        self.is_down, self.flap, self.turn_at, self.cuts = False, None, float("inf"), 0

    def obey(self, command, now):
        for name, value in command.get("set", {}).items():
            if name == "seed":
                self.random = random.Random(value)
            else:
                setattr(self, name, value)
        if "flap" in command:
            self.flap, self.is_down = command["flap"], False
            self.turn_at = now + self.flap["up"] if self.flap else float("inf")

    def turn(self, now):
        self.is_down = not self.is_down
        self.turn_at = now + self.flap["down" if self.is_down else "up"]
        if not self.is_down:
            return
        self.cuts += 1
        for way in self.ways:
            way.travelling.clear()
            way.free_at = 0.0
            if self.flap["reset"]:
                for connection, expected in way.acknowledged.items():
                    write(way.device_from, reset_packet(*connection, expected))
                way.acknowledged.clear()

    def counters(self):
        names = ("bytes", "packets", "lost", "overflowed")
        return {"cuts": self.cuts, **{name: [getattr(way, name) for way in self.ways] for name in names}}


def run(devices):
    link = Link([Way(devices[0], devices[1]), Way(devices[1], devices[0])])
    by_device = {way.device_from: way for way in link.ways}
    commands = b""
    os.set_blocking(0, False)
    while True:
        now = time.monotonic()
        due = min([link.turn_at] + [way.travelling[0][0] for way in link.ways if way.travelling])
        ready, _, _ = select.select([0] + devices, [], [], max(0.0, min(1.0, due - now)))
        now = time.monotonic()
        if now >= link.turn_at:
            link.turn(now)
        for device in devices:
            if device not in ready:
                continue
            try:
                for _ in range(64):
                    by_device[device].take(os.read(device, 2 * MTU), time.monotonic(), link)
            except BlockingIOError:
                pass
        for way in link.ways:
            way.deliver(time.monotonic())
        if 0 in ready:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, commands = (commands + read).split(b"\n")
            for line in lines:
                link.obey(json.loads(line), now)
                print(json.dumps(link.counters()), flush=True)


def main(namespaces):
    made = []
    try:
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "add", namespace], check=True)
            made.append(namespace)
        devices = [tun(name, "192.0.2.%d" % (at + 1)) for at, name in enumerate(namespaces)]
        print("{}", flush=True)
        run(devices)
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)


main(sys.argv[1:3])
