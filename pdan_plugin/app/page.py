"""The page of `basicsr app`, built with Gradio."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]

from pdan_plugin.app.limits import accepted
from pdan_plugin.app.restored_file import RestoredFile
from pdan_plugin.app.work import JobStopped, Work
from pdan_plugin.errors import RequestError
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.media.picture_files import read_as_shown
from pdan_plugin.media.video_source import VIDEO_SUFFIXES, first_frame

TITLE = 'Restore pictures and videos'
# Fonts of the system: the page loads nothing from other sites.
THEME = gr.themes.Default(  # pyright: ignore[reportPrivateImportUsage]
    font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']
)
CSS = """
.gradio-container {max-width: 1200px !important; width: 100% !important; margin: 0 auto}
#status {min-height: 1.6em}
@media (max-width: 600px) {.gradio-container {padding: 8px !important}}
"""
_WAITING = 8  # jobs that may wait
_PROGRESS = gr.Progress()  # Gradio passes each job's own one


def build_page(work: Work) -> Any:
    """The page: a file, weights and two buttons; then a comparison with a slider, and the result to download."""
    limits = work.limits
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(
            f'# {TITLE}\nSharper, and larger. A picture of at most {limits.megapixels:g} megapixels, or a video '
            f'of at most {limits.seconds:g} seconds. One job runs at a time; files stay on the computer '
            'that runs this page.'
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                source = gr.File(
                    label='Picture or short video',
                    file_types=[*PICTURE_SUFFIXES, *sorted(VIDEO_SUFFIXES)],
                    elem_id='source',
                    height=140,
                )
                preview = gr.Image(label='Input', interactive=False, visible=False, buttons=[], height=220)
                weights = gr.Dropdown(
                    work.networks.names, value=work.networks.names[0], label='Weights', elem_id='weights'
                )
                with gr.Row():
                    start = gr.Button('Restore', variant='primary', interactive=False, elem_id='start', min_width=100)
                    stop = gr.Button('Stop', variant='stop', interactive=False, elem_id='stop', min_width=100)
                status = gr.Markdown(elem_id='status')
            with gr.Column(scale=2, min_width=300):
                slider = gr.ImageSlider(
                    label='Before and after: drag the line',
                    interactive=False,
                    format='png',
                    max_height=640,
                    buttons=['fullscreen'],
                    elem_id='comparison',
                )
                video = gr.Video(label='Result', visible=False, interactive=False, elem_id='video')
                download = gr.DownloadButton('Download the result', visible=False, elem_id='download')

        def look(path: str | None) -> tuple[Any, ...]:
            hidden = gr.update(value=None, visible=False)
            nothing = (gr.update(value=None), hidden, gr.update(visible=False))
            if path is None:
                return hidden, gr.update(interactive=False), '', *nothing
            try:
                upload = accepted(Path(path), limits)
                picture = (first_frame if upload.is_video else read_as_shown)(upload.path)
            except (RequestError, ValueError, OSError) as error:
                _show_error(str(error))
                return hidden, gr.update(interactive=False), _as_text(str(error)), *nothing
            return (
                gr.update(value=picture, visible=True),
                gr.update(interactive=True),
                upload.in_words,
                *nothing,
            )

        def begin() -> tuple[Any, ...]:
            return gr.update(interactive=False), gr.update(interactive=True), 'Working'

        def restore(
            path: str | None, name: str, request: gr.Request, progress: Any = _PROGRESS
        ) -> Iterator[tuple[Any, ...]]:
            unchanged = (gr.skip(), gr.skip(), gr.skip())
            ready = gr.update(interactive=True), gr.update(interactive=False)
            if path is None:
                yield *unchanged, *ready, 'Choose a picture or a video first.'
                return
            try:
                for step in work.restore(Path(path), name, str(request.session_hash)):
                    if isinstance(step, RestoredFile):
                        yield *_shown(step), *ready, _summary(step)
                    else:
                        progress(step.share or (step.seconds, None), desc=step.text, unit='s')
                        yield *unchanged, gr.skip(), gr.skip(), step.text
            except JobStopped:
                yield *unchanged, *ready, 'Stopped.'
            except RequestError as error:
                _show_error(str(error))
                yield *unchanged, *ready, _as_text(str(error))

        def end(request: gr.Request) -> None:
            work.stop(str(request.session_hash))

        results = [slider, video, download]
        source.change(
            look, source, [preview, start, status, *results], api_visibility='private', show_progress='hidden'
        )
        started = start.click(begin, None, [start, stop, status], api_visibility='private', queue=False)
        started.then(
            restore,
            [source, weights],
            [*results, start, stop, status],
            api_visibility='private',
            concurrency_limit=None,  # `work` runs them one by one
            show_progress_on=slider,
            scroll_to_output=True,
        )
        # the status is shown first: an answer that comes after 'Stopped.' would replace it
        stopping = stop.click(lambda: 'Stopping', None, status, api_visibility='private', queue=False)
        stopping.then(end, api_visibility='private', queue=False)
        page.unload(_left(work))
    return page.queue(max_size=_WAITING)


def _left(work: Work) -> Any:
    def left(request: gr.Request) -> None:
        work.stop(str(request.session_hash))

    return left


def _shown(result: RestoredFile) -> tuple[Any, ...]:
    path = str(result.path)
    return (
        gr.update(value=(result.before, result.after)),
        gr.update(value=path if result.is_video else None, visible=result.is_video),
        gr.update(value=path, visible=True),
    )


def _summary(result: RestoredFile) -> str:
    height, width = result.after.shape[:2]
    notes = ''.join(f'\n- {_as_text(note)}' for note in result.notes)
    return f'Done: {_as_text(result.path.name)}, shown at {width} × {height} pixels.{notes}'


def _show_error(text: str) -> None:
    gr.Warning(html.escape(text), duration=12, title='This did not work')


def _as_text(text: str) -> str:
    """Text of a file's name or an error in Markdown: shown as it is."""
    return ''.join(f'\\{letter}' if letter in '\\`*_{}[]()#+-!|~>' else letter for letter in html.escape(text))
