# Sourced by the other scripts: which Pythons this package supports, where this machine has them, how the package is
# installed and its tests are run.

# The supported versions, oldest first, a line each: what setup.py says.
supported_pythons() {
  sed -n 's/^PYTHONS = \[\(.*\)\]$/\1/p' setup.py | tr -d "' " | tr ',' '\n'
}

newest_first() {
  supported_pythons | sort -t. -k1,1nr -k2,2nr
}

# Whether $1 can be called and is Python $2, such as 3.12.
is_python() {
  "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" 2>/dev/null
}

# Prints the command on PATH that is Python $1; fails where there is none. PYTHON=/path/to/python goes before PATH.
find_on_path() {
  local name
  for name in "${PYTHON:-}" "python$1" python3 python; do
    [ -n "$name" ] && is_python "$name" "$1" && { echo "$name"; return; }
  done
  return 1
}

# The same, with pyenv's besides: its python3.12 on PATH runs only where `pyenv global` names that version.
find_python() {
  local name
  find_on_path "$1" && return
  for name in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
    is_python "$name" "$1" && { echo "$name"; return; }
  done
  return 1
}

# Installs this package into the environment $1 (its folder), with the extras $2, unless that was done already.
# $3: what else tells one state of the environment from another. Further: arguments for pip.
install_package() {
  local environment=$1 extras=$2 state=$3 python="$1/bin/python" stamp="$1/.pdan_plugin_installed" wanted
  shift 3
  # By the description of the package: an edited setup.py or another set of extras installs anew.
  wanted="$(pwd) [$extras] $(cksum < setup.py)${state:+ $state}"
  if grep -qxF "$wanted" "$stamp" 2>/dev/null; then return; fi
  echo '== installing (torch and its libraries are several GB)'
  # An older pip leaves it to BasicSR's setup.py to fetch torch for its build, which mixes releases of torch's libraries.
  "$python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (23, 1))' ||
    "$python" -m pip install --disable-pip-version-check --quiet --upgrade pip || return
  "$python" -m pip install --disable-pip-version-check "$@" -e ".[$extras]" || return
  echo "$wanted" >> "$stamp"
}

# $1: the Python to run the tests with. Further: arguments for pytest.
run_tests() {
  local python=$1
  shift
  # A test process a core; each starts processes of its own, so no more threads than that.
  OMP_NUM_THREADS=1 "$python" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
}
