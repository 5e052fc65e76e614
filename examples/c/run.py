"""Runs the C example as N processes and checks that all end well and with the same digest.

usage: run.py PROGRAM [N]
"""

import subprocess
import sys


def main() -> int:
    program, peers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    common = ["--peers", str(peers), "--steps", "5"]
    first = subprocess.Popen([program, "--serve", "127.0.0.1:0", *common], stdout=subprocess.PIPE, text=True)
    processes = [first]
    try:
        assert first.stdout is not None
        word, address = first.stdout.readline().split()
        assert word == "coordinator", word
        for _ in range(peers - 1):
            processes.append(
                subprocess.Popen([program, "--coordinator", address, *common], stdout=subprocess.PIPE, text=True)
            )
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    print("".join(outputs), end="")
    statuses = [process.returncode for process in processes]
    digests = {output.splitlines()[-1] for output in outputs if output}
    if any(statuses) or len(digests) != 1 or not digests.pop().startswith("digest "):
        print(f"exit statuses {statuses}, digests differ or are missing", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
