# Sourced by test.sh and CI: which Chromium the tests of the report page would drive.
find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && return
  done
  return 1
}
