"""Starts and ends the server of the page. Uploads and results are in a temporary folder that ends with it."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pdan_plugin.app.limits import Limits
from pdan_plugin.app.networks import Networks
from pdan_plugin.app.work import Work
from pdan_plugin.errors import RequestError

LOCAL = ('127.0.0.1', 'localhost', '::1')


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the page as Ctrl-C does, so that no upload stays on the disk; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_arguments: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not end the cleaning
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def serve(
    weights: Sequence[Path] = (),
    *,
    device: str | None = None,
    precision: str = 'auto',
    host: str = '127.0.0.1',
    port: int | None = None,
    megapixels: float = 4.0,
    seconds: float = 20.0,
    upload: int = 200 * 2**20,
    opens_browser: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Shows the page until KeyboardInterrupt.

    Args:
        weights: See `Networks`, also for ``device`` and ``precision``.
        host: The address to listen on.
        port: None for the first free one from 7860 on.
        megapixels: Of the largest picture or frame.
        seconds: Of the longest video.
        upload: Bytes of the largest file.
        opens_browser: Whether the page is opened in the browser of this computer.
        say: Receives the address.

    Raises:
        RequestError: Weights cannot be used, or the address is taken.
    """
    networks = Networks(weights, device, precision)
    networks.restorer(networks.names[0])  # fails now, not at the first picture
    with _sigterm_as_interrupt(), tempfile.TemporaryDirectory(prefix='basicsr-app-') as folder:
        # Gradio reads these when it is imported and when files arrive
        os.environ['GRADIO_TEMP_DIR'] = str(Path(folder, 'uploads'))
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        os.environ['HF_HUB_OFFLINE'] = '1'
        from pdan_plugin.app.page import CSS, THEME, build_page

        work = Work(networks, Limits(megapixels, seconds), Path(folder, 'results'))
        page = build_page(work)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                inbrowser=opens_browser,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                show_error=True,
                max_file_size=upload,
                footer_links=[],
                ssr_mode=False,
                allowed_paths=[str(Path(folder, 'results'))],
                theme=THEME,
                css=CSS,
            )
        except OSError as error:
            work.close()
            raise RequestError(
                f'--host {host} --port {port or "7860 to 7959"}: cannot listen there: {error}'
            ) from error
        try:
            say(f'The page is at {address} (Ctrl-C ends it)')
            if host not in LOCAL:
                say(f'Note: with --host {host} everyone who can reach this computer can use the page.')
            threading.Event().wait()
        except KeyboardInterrupt:
            say('Ending: uploaded files and results are removed')
        finally:
            page.close(verbose=False)
            work.close()
