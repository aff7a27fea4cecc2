#!/usr/bin/env bash
# Runs lint, types, the documentation build and tests. Makes .venv if no environment is active.
#   bash scripts/test.sh [arguments for pytest]             the quick tests: all but those marked long
#   bash scripts/test.sh --all [arguments for pytest]       all tests; 25 minutes on two cores once installed
#   bash scripts/test.sh --pythons [arguments for pytest]   the quick tests on every supported Python: see test_pythons.sh
set -euo pipefail
cd "$(dirname "$0")/.."
selected='not long'
case "${1:-}" in
  --all) selected=''; shift ;;
  --pythons) shift; exec bash scripts/test_pythons.sh "$@" ;;
  --pythons=*) runs=${1#--pythons=}; shift; exec bash scripts/test_pythons.sh --only="$runs" "$@" ;;
esac
source scripts/environment.sh tests,lint,docs
source scripts/chromium.sh
find_chromium > /dev/null ||
  echo '== no Chromium found: the tests of the report page are skipped. Install it: apt-get install chromium'

echo '== ruff';    ruff check .; ruff format --check .
echo '== pyright and site'
mkdocs build --strict --quiet --site-dir "$(mktemp -d)" & site=$!
pyright || { kill "$site"; exit 1; }
wait "$site"
echo '== pytest';  run_tests python -m "$selected" "$@"
