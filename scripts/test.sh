#!/usr/bin/env bash
# Everything that has to hold: lint, types, tests. Makes .venv where no environment is active. 25 minutes on two cores once installed.
#   bash scripts/test.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh tests,lint,docs
source scripts/chromium.sh
find_chromium > /dev/null ||
  echo '== no Chromium found: the tests of the report page are left out. Install one: apt-get install chromium'

echo '== ruff';    ruff check .
echo '== pyright'; pyright
echo '== site';    mkdocs build --strict --quiet --site-dir "$(mktemp -d)"
# A test process a core; each starts processes of its own, so no more threads than that.
echo '== pytest';  OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
