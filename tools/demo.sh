#!/usr/bin/env bash
# The demonstration, from nothing: Debian packages, a virtual environment, the build, then examples/digits/demo.py: four peers
# train a classifier of handwritten digits, one is killed, a new one joins. Quick when run again. Options go to demo.py.
#
#   tools/demo.sh [--plain]

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

hawser_apt
hawser_venv scikit-learn
hawser_pip_install
exec "$hawser_python" "$hawser_root/examples/digits/demo.py" "$@"
