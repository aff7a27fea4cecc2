# Sourced by the other scripts: lists the supported Pythons, finds them on this machine, installs the package and runs
# its tests.

# The supported versions from pyproject.toml, oldest first, one per line.
supported_pythons() {
  sed -n "s/^ *'Programming Language :: Python :: \([0-9.]*\)',$/\1/p" pyproject.toml
}

newest_first() {
  supported_pythons | sort -t. -k1,1nr -k2,2nr
}

# Whether $1 can be called and is Python $2, such as 3.12.
is_python() {
  "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

# Prints the command on PATH that is Python $1; fails if there is none. PYTHON=/path/to/python is tried first.
find_on_path() {
  local name
  for name in "${PYTHON:-}" "python$1" python3 python; do
    [ -n "$name" ] && is_python "$name" "$1" && { echo "$name"; return; }
  done
  return 1
}

# The same, and pyenv's versions too: pyenv's python3.12 on PATH runs only if `pyenv global` names that version.
find_python() {
  local name
  find_on_path "$1" && return
  for name in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    is_python "$name" "$1" && { echo "$name"; return; }
  done
  return 1
}

# Installs this package into the environment $1 (its folder), with the extras $2, unless that was done before.
# $3: further text that identifies the environment's state. The rest: arguments for pip.
install_package() {
  local environment=$1 extras=$2 state=$3 python="$1/bin/python" stamp="$1/.pdan_plugin_installed" wanted
  shift 3
  # Another description of the package or other extras lead to a new installation; other settings of ruff do not.
  wanted="$(pwd) [$extras] $(sed '/^\[tool\.ruff\]/,$d' pyproject.toml | cksum)${state:+ $state}"
  if grep -qxF "$wanted" "$stamp" 2>/dev/null; then return; fi
  echo '== installing (torch and its libraries are several GB)'
  "$python" -m pdan_plugin.install_toolbox "$@" || return
  "$python" -m pip install --disable-pip-version-check "$@" -e ".[$extras]" || return
  echo "$wanted" >> "$stamp"
}

# $1: the Python to run the tests with. The rest: arguments for pytest.
run_tests() {
  local python=$1
  shift
  # One test process per core. Each starts further processes, so each gets one thread.
  OMP_NUM_THREADS=1 "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
}
