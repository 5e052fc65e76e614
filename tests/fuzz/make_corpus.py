#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets from the golden files, and each target's dictionary.

    make_corpus.py GOLDEN OUT     writes OUT/<target>/* and OUT/<target>.dict

The first bytes of a seed steer the target and are described in its source; the rest is what the decoder reads.
"""

import math
import shutil
import struct
import sys
from pathlib import Path

CONTROL_HEADER = 16
DATA_HEADER = 64
RELAY = 41

DICTIONARIES = {
    "fuzz_control": [b"HWSR", b"HWSR\x01\x00", b"\xff\xff\xff\xff", b"\x00\x04", b"\x01\x04",
                     b"\xf4\x8f\xbf\xbf", b"\xed\xa0\x80"]
    + [b"HWSR\x01\x00" + bytes([number, 0]) for number in range(1, 22)],
    "fuzz_frame": [b"HWSD", b"HWSD\x01\x00", b"\xff\xff\xff\xff", b"\x00\x00\x40\x00", b"\x40\x00", b"\x00\x10"],
    "fuzz_text": [b"[::1]:", b"127.0.0.1:", b"localhost", b"0.0.0.0", b"::", b"%eth0", b":0", b":65535", b":65536",
                  b",", b" , ", b"-", b"::ffff:1.2.3.4", b"\x00"],
    "fuzz_codec": [b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\x00\x00\xc0\x7f", b"\x01\x00\x80\x7f", b"\xff\xff\x7f\x7f",
                   b"\x01\x00\x00\x00", b"\x00\x00\x00\x80", b"\x00\x7c", b"\x80\x7f", b"\xff\xff\xff\xff", b"\x80", b"\x88"],
    "fuzz_sync": [b"\x01\x00", b"\x02\x02\x00\x00\x00", b"\x05\x01\x00", b"\xff\xff\xff\xff", b"\x00\x80\x00\x00",
                  b"\x40\x00"],
}


def read_hex(path):
    text = "".join(line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    return bytes.fromhex(text)


def frames(golden, folder):
    return {path.stem: read_hex(path) for path in sorted(golden.glob(f"v*/{folder}/*.hex"))}


def control_seeds(golden):
    valid, invalid = frames(golden, "control"), frames(golden, "invalid")
    for name, frame in valid.items():
        yield name, bytes([0, 1]) + frame
        yield name + "-mended", bytes([3, 7]) + frame
    for name, frame in invalid.items():
        yield name, bytes([0, 5]) + frame
        yield name + "-mended", bytes([3, 5]) + frame
    yield "all", bytes([3, 200]) + b"".join(valid.values())
    yield "all-but-the-end", bytes([1, 3]) + b"".join(valid.values())[:-1]


def frame_seeds(golden):
    payload_of = {"begin": 2, "done": 3, "relay": 4}
    for name, frame in {**frames(golden, "data"), **frames(golden, "invalid")}.items():
        yield name, bytes([0]) + frame[:DATA_HEADER]
        yield name + "-mended", bytes([1]) + frame[:DATA_HEADER]
        for kind, selector in payload_of.items():
            if name.startswith(kind):
                payload = frame[DATA_HEADER:]
                yield name + "-payload", bytes([selector]) + (payload[:RELAY] if kind == "relay" else payload)


def text_seeds(_):
    texts = ["127.0.0.1:29400", "[::1]:29400", "localhost:1", "[fe80::1%eth0]:65535", ":0", "::",
             "a.example:1, b.example:2,[::]:3", "40000-40100", "1-65535", "0-0", "9-8", "host", "host:", ":", "host:99999",
             "[::1", "1.2.3.4.5:6", "ho st:1", "\u00e9:1", "", "[::1\0x]:1", "::1\0x", "::1%eth0:x", "[::1%lo:x]:1"]
    for number, text in enumerate(texts):
        for mode in range(8):
            yield f"{number}-{mode}", bytes([mode]) + text.encode()


def codec_seeds(_):
    floats = [0.0, -0.0, 1.0, -1.5, 0.3, 1e-45, -3e-40, 65504.0, 65520.0, 3.4028234e38, -3.4028234e38, 1e30]
    special = [math.inf, -math.inf, math.nan]
    for codec in range(6):
        for log2 in [0] if codec < 3 else [0, 5, 8]:
            for rounding in range(2):
                for mode in range(4):
                    head = bytes([codec, log2, rounding, mode + 4 * (mode + rounding)])
                    for count in (1, 33, 300):
                        values = [floats[(i + count) % len(floats)] * (1 if i % 5 else -1) for i in range(count)]
                        yield f"{codec}-{log2}-{rounding}-{mode}-{count}", head + struct.pack(f"<{count}f", *values)
                    mixed = (floats + special) * 5
                    yield f"{codec}-{log2}-{rounding}-{mode}-special", head + struct.pack(f"<{len(mixed)}f", *mixed)
    yield "no-such-codec", bytes([6, 0, 0, 0, 1, 2, 3])
    yield "no-such-block", bytes([3, 21, 0, 0, 1, 2, 3])
    yield "no-such-rounding", bytes([3, 0, 2, 0, 1, 2, 3])


def sync_seeds(golden):
    for folder in ("sync", "invalid"):
        for name, message in frames(golden, folder).items():
            if folder == "sync" or name.startswith("sync-"):
                yield name, bytes([0]) + message
                yield name + "-heard", bytes([1, 0, 0, 0, 15, 0, 1, len(message)]) + message
    # A member with content 0 among three with content 1, as rank 0: offers, hashes, blocks, and a beginning anew.
    for content in (1, 2, 3):
        offers = b"".join(bytes([1, rank, 0, content, 1, 0, 0]) for rank in (1, 2, 3))
        hashes = b"".join(bytes([2, rank, content, 0]) for rank in (1, 2, 3))
        arrivals = b"".join(bytes([6, rank, block, content]) for block in range(20) for rank in (1, 2, 3))
        start = bytes([1, 0, 6, 0, 15])
        yield f"play-{content}", start + offers + hashes + arrivals
        yield f"play-{content}-again", start + offers + hashes + arrivals[:60] + bytes([5, 0, 0, 7]) + offers + arrivals
        wrong = b"".join(bytes([6, 1, block, 0]) for block in range(20))
        yield f"play-{content}-wrong", start + offers + bytes([2, 1, 0, 0]) + hashes + wrong + arrivals
    requests = bytes([3, 1, 0, 20, 4, 2, 2, 0, 10, 15, 5])
    yield "play-serve", bytes([1, 0, 0, 0, 15]) + requests + offers + requests


def escaped(token):
    return '"' + "".join(f"\\x{byte:02x}" for byte in token) + '"'


def main(argv):
    if len(argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    golden, out = Path(argv[1]), Path(argv[2])
    for target, seeds in {"fuzz_control": control_seeds, "fuzz_frame": frame_seeds, "fuzz_text": text_seeds,
                          "fuzz_codec": codec_seeds, "fuzz_sync": sync_seeds}.items():
        folder = out / target
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        count = 0
        for name, data in seeds(golden):
            (folder / name).write_bytes(data)
            count += 1
        if not count:
            print(f"{golden} has nothing for {target}", file=sys.stderr)
            return 1
        (out / f"{target}.dict").write_text("\n".join(map(escaped, DICTIONARIES[target])) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
