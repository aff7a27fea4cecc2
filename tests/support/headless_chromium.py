"""A real browser."""

import os
import shutil

import pytest

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')


@pytest.fixture(scope='session')
def browser():
    """A headless Chromium; without one a test is skipped, or fails where PDAN_REQUIRE_CHROMIUM=1 demands it."""
    missing = None
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        missing = f'none of {", ".join(BROWSERS)} is installed; install one (Debian, Ubuntu: apt-get install chromium)'
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed; pip install 'pdan-plugin[tests]'"
    if missing is not None:
        if os.environ.get('PDAN_REQUIRE_CHROMIUM') == '1':
            pytest.fail(f'PDAN_REQUIRE_CHROMIUM=1, but {missing}')
        pytest.skip(missing)
    arguments = ['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()
