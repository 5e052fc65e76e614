"""The demonstration of examples/digits, the whole of it: its own checks decide."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "examples" / "digits" / "demo.py"


def test_digits_keep_training_while_peers_come_and_go():
    pytest.importorskip("sklearn")
    # Peer 0 is usually the oldest: whoever takes its place gives the newcomer the weights.
    done = subprocess.run(
        [sys.executable, DEMO, "--plain", "--victim", "0"], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("peer-0 got SIGKILL", "peer-0 left the group", "peer-4 joined", "test accuracy 9"):
        assert word in done.stdout
