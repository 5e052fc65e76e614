# Sourced by tools/test.sh and tools/demo.sh: everything that turns a plain Debian 12 or Ubuntu 24.04 into one that can build
# and run Hawser. Each function does nothing, quickly and without a network, when its work is done already.
#
#   hawser_apt [package...]        Debian packages of the build, and these
#   hawser_venv [requirement...]   a virtual environment in .venv with what the Python package needs, and these
#   hawser_torch                   torch for processors, into .venv
#   hawser_build PRESET [target...]  configures and builds build/PRESET
#   hawser_pip_install             builds the Python package and installs it into .venv
#
# Set by sourcing: hawser_root, hawser_python (the interpreter of .venv). Functions end the script when they fail.

hawser_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
hawser_python=$hawser_root/.venv/bin/python
hawser_jobs=${HAWSER_JOBS:-$(nproc)}

hawser_packages=(g++ cmake ninja-build ccache pkg-config git ca-certificates libfmt-dev libspdlog-dev libuv1-dev libxxhash-dev
  nlohmann-json3-dev libcpp-httplib-dev libcli11-dev catch2 spin)
hawser_requirements=(numpy pytest 'scikit-build-core>=0.10' 'nanobind>=2.2')

hawser_say() { printf '\n== %s\n' "$*" >&2; }

hawser_die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# The first Python of at least 3.10, the machine's own last; nothing when there is none.
hawser_find_python() {
  local candidate
  for candidate in python3 /usr/bin/python3; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
}

hawser_apt() {
  local wanted=("${hawser_packages[@]}" "$@") missing=() package python
  python=$(hawser_find_python)
  # Debian splits what a virtual environment and an extension module need off its Python; other Pythons are whole.
  if [[ -z $python || $python == /usr/bin/* ]]; then
    wanted+=(python3 python3-venv python3-dev)
  fi
  for package in "${wanted[@]}"; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      missing+=("$package")
    fi
  done
  ((${#missing[@]})) || return 0
  hawser_say "installing Debian packages: ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then
    command -v sudo >/dev/null || hawser_die "missing Debian packages (${missing[*]}): run as root, or install sudo"
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
    hawser_die "apt-get update failed; missing packages: ${missing[*]}"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null ||
    hawser_die "apt-get could not install: ${missing[*]}"
}

# Prints those of the requirements that the interpreter of .venv lacks.
hawser_missing_requirements() {
  "$hawser_python" - "$@" <<'PYTHON'
import importlib.metadata
import re
import sys

for requirement in sys.argv[1:]:
    name, operator, version = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:(==|>=)(.+))?", requirement).groups()
    numbers = lambda text: [int(part) for part in re.findall(r"\d+", text.split("+")[0])]
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        print(requirement)
        continue
    if (operator == "==" and installed.split("+")[0] != version) or (
        operator == ">=" and numbers(installed) < numbers(version)
    ):
        print(requirement)
PYTHON
}

hawser_venv() {
  local base missing
  if ! "$hawser_python" -m pip --version >/dev/null 2>&1; then
    base=$(hawser_find_python)
    [[ -n $base ]] || hawser_die "no Python of at least 3.10 found"
    hawser_say "making a virtual environment in .venv with $base"
    "$base" -m venv --clear "$hawser_root/.venv" || hawser_die "python3 -m venv failed"
  fi
  mapfile -t missing < <(hawser_missing_requirements "${hawser_requirements[@]}" "$@")
  ((${#missing[@]})) || return 0
  hawser_say "installing Python packages: ${missing[*]}"
  "$hawser_python" -m pip install --quiet --disable-pip-version-check "${missing[@]}" ||
    hawser_die "pip could not install: ${missing[*]}"
}

# torch for processors; without its own index pip would fetch some GB of CUDA with it. Where that index cannot be reached, pip
# asks its usual sources alone: it would try the index again and again for each requirement.
hawser_torch() {
  [[ -n $(hawser_missing_requirements torch==2.13.0) ]] || return 0
  hawser_say "installing torch"
  local index=https://download.pytorch.org/whl/cpu from=()
  local reach='import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20)'
  if "$hawser_python" -c "$reach" "$index/torch/" 2>/dev/null; then from=(--extra-index-url "$index"); fi
  "$hawser_python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 "${from[@]}" ||
    hawser_die "pip could not install torch; tools/test.sh --no-torch goes without"
}

hawser_build() {
  local preset=$1
  shift
  local log=$hawser_root/build/$preset.configure.log
  mkdir -p "$hawser_root/build"
  hawser_say "building the preset $preset"
  (cd "$hawser_root" && cmake --preset "$preset" >"$log" 2>&1) || {
    cat "$log" >&2
    hawser_die "cmake --preset $preset failed"
  }
  local targets=()
  (($# == 0)) || targets=(--target "$@")
  cmake --build "$hawser_root/build/$preset" --parallel "$hawser_jobs" "${targets[@]}" ||
    hawser_die "the build of the preset $preset failed"
}

# Into a build folder that stays, so that the second time compiles only what changed. Compiler and flags are those of the preset
# release, so that ccache has most of it even the first time.
hawser_pip_install() {
  hawser_say "building the Python package"
  local settings=(--config-settings=build-dir=build/python --config-settings=cmake.define.HAWSER_WERROR=ON)
  (cd "$hawser_root" && CC=${CC:-cc} CXX=${CXX:-c++} CMAKE_BUILD_PARALLEL_LEVEL=$hawser_jobs PATH="$hawser_root/.venv/bin:$PATH" \
    "$hawser_python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps "${settings[@]}" .) ||
    hawser_die "building the Python package failed"
}
