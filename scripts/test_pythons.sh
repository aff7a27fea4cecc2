#!/usr/bin/env bash
# The quick tests on every supported Python that this machine has, with the newest packages, and on the oldest supported
# Python with the oldest packages that pyproject.toml allows (tests/oldest.txt). Prints a table. Fails if anything failed.
#   bash scripts/test.sh --pythons [arguments for pytest]
#   bash scripts/test.sh --pythons=3.12-newest,3.10-oldest [arguments for pytest]
# Environments are kept in .venvs (7 GB each). Those of the newest packages are updated once a week.
set -euo pipefail
cd "$(dirname "$0")/.."
unset VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME
source scripts/pythons.sh

oldest=$(supported_pythons | head -n 1)-oldest
runs="$(supported_pythons | sed 's/$/-newest/') $oldest"
case "${1:-}" in
  --only=*)
    asked=$(echo "${1#--only=}" | tr ',' ' ')
    shift
    for run in $asked; do
      [[ " ${runs//$'\n'/ } " == *" $run "* ]] || { echo "$run: not one of" $runs >&2; exit 2; }
    done
    runs=$asked ;;
esac
outcomes=.venvs/outcomes
rm -rf "$outcomes"
mkdir -p "$outcomes"

install() {
  local environment="$(pwd)/.venvs/$1"
  if [ ! -x "$environment/bin/python" ]; then
    "$2" -m venv "$environment" || return
  fi
  case $1 in
    *-oldest) install_package "$environment" tests "$(cksum < tests/oldest.txt)" --constraint tests/oldest.txt ;;
    *-newest) install_package "$environment" tests "$(date +%G-%V)" --upgrade --upgrade-strategy eager ;;
  esac
}

# Prints the counts in pytest's report $2, using Python $1.
counts() {
  "$1" - "$2" <<'PYTHON'
import sys
from xml.etree import ElementTree

suite = ElementTree.parse(sys.argv[1]).getroot().find('testsuite')
tests, errors, failures, skipped = (int(suite.get(name)) for name in ('tests', 'errors', 'failures', 'skipped'))
print(f'{tests - errors - failures - skipped} passed, {errors + failures} failed, {skipped} skipped')
PYTHON
}

status=0
for run in $runs; do
  outcome="$outcomes/$run"
  if ! python=$(find_python "${run%-*}"); then
    echo "no Python ${run%-*} on this machine" > "$outcome"
    continue
  fi
  echo "== $run: $("$python" --version)"
  if ! install "$run" "$python"; then
    echo 'the installation failed' > "$outcome"
    status=1
    continue
  fi
  python="$(pwd)/.venvs/$run/bin/python"
  report="$outcomes/$run.xml"
  PATH="$(dirname "$python"):$PATH" run_tests "$python" -m 'not long' --junitxml="$report" "$@" || status=1
  counts "$python" "$report" > "$outcome" || echo 'pytest broke off' > "$outcome"
done

cell() { cat "$outcomes/$1" 2>/dev/null || echo -; }
printf '\n== %-8s%-44s%s\n' Python 'newest packages' 'oldest packages'
for version in $(printf '%s\n' $runs | sed 's/-.*//' | sort -u -t. -k1,1n -k2,2n); do
  printf '   %-8s%-44s%s\n' "$version" "$(cell "$version-newest")" "$(cell "$version-oldest")"
done
if ! ls "$outcomes"/*.xml > /dev/null 2>&1; then
  echo 'no test was run' >&2
  status=1
fi
exit "$status"
