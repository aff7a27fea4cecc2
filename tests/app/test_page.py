"""The page in a real Chromium, served by the real command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from free_port import free_port
from PIL import Image
from skimage.data import astronaut
from video_files import make_interlaced

from pdan_plugin.app.networks import Networks
from pdan_plugin.commands.main import main
from pdan_plugin.weights.packaged_weights import DEFAULT

REPOSITORY = Path(__file__).parents[2]
WAIT = 120_000  # milliseconds


@pytest.fixture(scope='module')
def address(tmp_path_factory):
    """The command, at work; it must end well, and take its uploads with it."""
    pytest.importorskip('gradio', reason="pip install 'pdan-plugin[app]'")
    folder, port = tmp_path_factory.mktemp('app'), free_port()
    environment = os.environ | {'PYTHONPATH': str(REPOSITORY), 'TMPDIR': str(folder), 'OMP_NUM_THREADS': '2'}
    words = ['app', '--port', str(port), '--megapixels', '0.05', '--seconds', '20']
    process = subprocess.Popen(
        [sys.executable, '-m', 'pdan_plugin', *words], stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first == f'The page is at http://127.0.0.1:{port}/ (Ctrl-C ends it)\n'
    yield f'http://127.0.0.1:{port}/'
    assert [path.name[:12] for path in folder.glob('basicsr-app-*')] == ['basicsr-app-']
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert 'uploaded files and results are removed' in process.stdout.read()
    assert not list(folder.glob('basicsr-app-*'))


@pytest.fixture
def page(browser, address):
    page = browser.new_page(viewport={'width': 1280, 'height': 900})
    page.asked = []
    page.on('request', lambda request: page.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector('#start')
    yield page
    hosts = {url.split('/')[2] for url in page.asked if url.startswith(('http', 'ws'))}
    assert hosts == {address.split('/')[2]}  # nothing comes from another site
    page.close()


@pytest.fixture(scope='module')
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('in') / 'my photo *1*.png'
    Image.fromarray(astronaut()[:192:4, :256:4]).save(path)
    return path


def upload(page, path: Path) -> None:
    page.set_input_files('#source input[type=file]', str(path))


def status(page, text: str) -> None:
    page.wait_for_function('text => document.querySelector("#status").innerText.includes(text)', arg=text, timeout=WAIT)


def can_start(page) -> bool:
    return page.eval_on_selector('#start', 'button => !button.disabled')


def downloaded(page, target: Path) -> Path:
    with page.expect_download(timeout=WAIT) as download:
        page.click('#download')
    path = target / download.value.suggested_filename
    download.value.save_as(path)
    return path


def decoded(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize('width', [390, 1280])
def test_a_picture_is_restored_compared_and_downloaded(page, picture, tmp_path, width):
    page.set_viewport_size({'width': width, 'height': 844})
    assert not can_start(page)
    upload(page, picture)
    status(page, 'Picture, 64 × 48 pixels')
    page.wait_for_function('!document.querySelector("#start").disabled')
    page.click('#start')
    status(page, 'Done: ')
    page.wait_for_function(
        '[...document.querySelectorAll("#comparison img")].filter(each => each.naturalWidth == 256).length >= 2'
    )
    assert page.evaluate('document.documentElement.scrollWidth <= innerWidth')
    restored = np.asarray(Image.open(downloaded(page, tmp_path)))
    expected = Networks().restorer(DEFAULT).restore_picture(np.asarray(Image.open(picture)))
    assert restored.shape == (192, 256, 3)
    assert np.abs(restored.astype(int) - expected).max() <= 1
    box = page.locator('#comparison').bounding_box()
    before = page.locator('#comparison').screenshot()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + box['height'] / 2)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.8, box['y'] + box['height'] / 2, steps=5)
    page.mouse.up()
    assert page.locator('#comparison').screenshot() != before  # the line has moved


def test_what_cannot_be_restored_is_a_message_and_the_page_goes_on(page, picture, tmp_path):
    wrong = tmp_path / 'wrong.png'
    wrong.write_text('<b>no picture</b>')
    upload(page, wrong)
    status(page, 'wrong.png: ')
    assert not can_start(page)
    Image.new('RGB', (300, 200)).save(tmp_path / 'large.png')
    page.click('#source button[aria-label="Clear"], #source [aria-label="Remove this file"]')
    upload(page, tmp_path / 'large.png')
    status(page, '0.1 megapixels; this page takes at most 0.05')
    assert not can_start(page)
    page.click('#source button[aria-label="Clear"], #source [aria-label="Remove this file"]')
    upload(page, picture)
    status(page, 'Picture, 64 × 48 pixels')
    page.wait_for_function('!document.querySelector("#start").disabled')


def test_a_video_is_stopped_and_then_restored(page, tmp_path):
    upload(page, make_interlaced(tmp_path / 'long.mp4', ['prog'] * 450, step=0))
    status(page, 'Video, 64 × 48 pixels, about')
    page.wait_for_function('!document.querySelector("#start").disabled')
    page.click('#start')
    page.wait_for_function('document.querySelector("#status").innerText.includes(" s left")', timeout=WAIT)
    page.click('#stop')
    status(page, 'Stopped.')
    page.wait_for_function('!document.querySelector("#start").disabled')
    page.click('#source button[aria-label="Clear"], #source [aria-label="Remove this file"]')
    short = make_interlaced(tmp_path / 'short.mp4', ['prog'] * 5, step=1)
    upload(page, short)
    status(page, 'Video, 64 × 48 pixels, about')
    page.wait_for_function('!document.querySelector("#start").disabled')
    page.click('#start')
    status(page, 'Done: short_x4.mp4')
    page.wait_for_selector('#video video')
    given, restored = decoded(short), decoded(downloaded(page, tmp_path))
    assert len(restored) == len(given) > 1
    assert {(frame.width, frame.height) for frame in restored} == {(256, 192)}


class TestCommand:
    def test_gradio_is_missing(self, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, 'gradio', None)
        assert main(['app']) == 2
        assert "pip install 'pdan-plugin[app]'" in capsys.readouterr().err

    def test_weights_that_are_missing_or_of_no_network(self, tmp_path, capsys):
        pytest.importorskip('gradio')
        assert main(['app', '-w', str(tmp_path / 'none.pth')]) == 2
        (tmp_path / 'bad.pth').write_bytes(b'bad')
        assert main(['app', '-w', str(tmp_path / 'bad.pth')]) == 2
        said = capsys.readouterr().err
        assert 'none.pth' in said
        assert 'bad.pth' in said

    def test_a_port_that_is_taken(self, address, capsys):
        port = address.rstrip('/').rpartition(':')[2]
        assert main(['app', '--port', port]) == 2
        assert 'cannot listen there' in capsys.readouterr().err

    @pytest.mark.parametrize('words', [['--port', '0'], ['--megapixels', '0'], ['--seconds', 'x'], ['--upload', '1']])
    def test_wrong_arguments(self, words):
        with pytest.raises(SystemExit) as ended:
            main(['app', *words])
        assert ended.value.code == 2
