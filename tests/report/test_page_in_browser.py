"""The page in a real Chromium: moved, sorted, narrow, and alone."""

import json

import pytest
from written_runs import make_run

from pdan_plugin.report.page import write_report

MARKUP = '<img src=x onerror="document.title=1">&amp;</script>'


@pytest.fixture
def open_page(browser):
    """`open_page(path, **context)`: the page, whose console, errors and requests are held to nothing at the end."""
    faults, contexts = [], []

    def opened(path, **context):
        contexts.append(browser.new_context(viewport={'width': 1280, 'height': 900}, **context))
        page = contexts[-1].new_page()
        page.on('console', lambda message: faults.append(f'console: {message.text}'))
        page.on('pageerror', lambda error: faults.append(f'error: {error}'))
        address = path.resolve().as_uri()
        page.on('request', lambda request: faults.append(f'request: {request.url[:99]}')
                if request.url != address and not request.url.startswith('data:') else None)  # fmt: skip
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def compared(runs):
    return write_report(runs, runs[0].parent / 'compare.html', frames=3)


def seen_left(page):
    """The share of the left picture that shows, from pixels: the stage's centre row with red and green in the panes."""
    page.evaluate("""() => {
        for (const [side, colour] of [['left', 'red'], ['right', 'lime']]) {
            const canvas = document.createElement('canvas');
            canvas.width = canvas.height = 1;
            const context = canvas.getContext('2d');
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            document.querySelector(`.pane.${side} img`).src = canvas.toDataURL();
        }
        document.querySelectorAll('.stage > .tag, .stage > .spot, .stage > .handle').forEach((one) => {
            one.style.opacity = 0;
        });
    }""")
    import cv2
    import numpy as np

    page.wait_for_timeout(50)
    shot = cv2.imdecode(np.frombuffer(page.locator('.stage').screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert shot is not None
    row = shot[shot.shape[0] // 2]
    return float((row[:, 2] > 128).mean())


def test_the_divider_moves_by_pointer_and_by_keys(compared, open_page):
    page = open_page(compared)
    box = page.locator('.stage').bounding_box()
    handle = page.get_by_role('slider')
    assert seen_left(page) == pytest.approx(0.5, abs=0.01)
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + 50)
    page.mouse.down()
    page.mouse.move(box['x'] + box['width'] * 0.8, box['y'] + 60, steps=4)
    page.mouse.up()
    assert seen_left(page) == pytest.approx(0.8, abs=0.01)
    page.mouse.move(box['x'] + 10, box['y'] + 60)  # let go is let go
    handle.focus()
    page.keyboard.press('ArrowLeft')
    assert handle.get_attribute('aria-valuenow') == '78'
    assert seen_left(page) == pytest.approx(0.78, abs=0.01)
    page.keyboard.press('Home')
    assert seen_left(page) == 0
    page.keyboard.press('End')
    assert seen_left(page) == 1


def test_what_is_compared_can_be_chosen_and_magnified(compared, runs, open_page):
    page = open_page(compared)
    left, right = page.locator('.pane.left img'), page.locator('.pane.right img')
    assert page.locator('.tag.left').inner_text().startswith('soft')
    assert page.locator('.tag.right').inner_text().startswith('sharp')
    assert left.get_attribute('src') != right.get_attribute('src')
    page.get_by_label('Left').select_option(label='Ground truth')
    page.get_by_label('Right').select_option(label='Error of soft')
    assert page.locator('.tag.left').inner_text() == 'Ground truth'
    assert 'Error of soft' in right.get_attribute('alt')
    small = left.bounding_box()['width']
    page.get_by_role('button', name='4×').click()
    assert left.bounding_box()['width'] == pytest.approx(4 * small, rel=0.01)
    before = left.bounding_box()['x']
    box = page.locator('.stage').bounding_box()
    page.mouse.move(box['x'] + 60, box['y'] + 100)
    page.mouse.down()
    page.mouse.move(box['x'] + 40, box['y'] + 100)
    page.mouse.up()
    assert left.bounding_box()['x'] == pytest.approx(before - 20, abs=1)
    assert left.bounding_box()['x'] == pytest.approx(right.bounding_box()['x'])


def test_the_table_sorts_both_ways_by_value(compared, runs, open_page):
    page = open_page(compared)
    frames = page.get_by_role('table', name='By frame, val')
    head = frames.locator('th').filter(has=page.get_by_role('button', name='soft')).first

    def values():
        return [float(text) for text in frames.locator('tbody tr td:nth-child(3)').all_inner_texts()]

    there = values()
    assert len(there) == 6
    assert there != sorted(there)
    head.get_by_role('button').click()
    assert values() == sorted(there)
    assert head.get_attribute('aria-sort') == 'ascending'
    head.get_by_role('button').focus()
    page.keyboard.press('Enter')
    assert values() == sorted(there, reverse=True)
    assert head.get_attribute('aria-sort') == 'descending'


def test_a_long_table_is_filled_as_it_is_scrolled_and_sorts_as_a_whole(runs, open_page):
    table = runs[0] / 'val.csv'
    more = [f'{clip:03d}_{frame:08d},{clip:03d},{frame:08d},{30 + frame / 100},0.1,0.01\n'
            for clip in range(2, 32) for frame in range(100)]  # fmt: skip
    more[1234] = more[1234].replace(',30', ',1')
    table.write_text(table.read_text(encoding='utf-8') + ''.join(more), encoding='utf-8')
    report = write_report(runs[:1], frames=1)
    assert report.stat().st_size < 1_000_000
    page = open_page(report)
    frames = page.get_by_role('table', name='By frame, val')
    rows = frames.locator('tbody tr')
    there = rows.count()
    assert there < 500
    page.get_by_role('region', name='By frame, val').evaluate('box => { box.scrollTop = box.scrollHeight; }')
    frames.locator('tbody tr').nth(there).wait_for()
    button = frames.locator('th').filter(has_text='PSNR').get_by_role('button')
    button.click()
    assert rows.first.inner_text().split() == ['014', '00000034', '1.34', '0.1000', '10.0', 'ms']
    assert 'more rows below' in page.locator('.rest:visible').inner_text()
    page.get_by_role('button', name='show all').focus()
    page.keyboard.press('Enter')
    assert rows.count() == 3006
    assert page.locator('.rest:visible').count() == 0


def test_a_table_wider_than_the_page_says_so_and_keeps_its_names_in_sight(compared, open_page):
    page = open_page(compared)
    hints = page.locator('.sideways:visible')
    assert hints.count() == 0
    page.set_viewport_size({'width': 390, 'height': 800})
    region = page.get_by_role('region', name='By frame, val')
    hint = region.locator('xpath=preceding-sibling::p')
    hint.wait_for()
    frame = region.locator('tbody tr').first.locator('td').nth(1)
    before = frame.bounding_box()['x']
    region.evaluate('box => { box.scrollLeft = box.scrollWidth; }')
    hint.wait_for(state='hidden')
    assert frame.bounding_box()['x'] == pytest.approx(before, abs=1)


def test_lower_is_better_and_what_has_no_value_stays_below(runs, open_page):
    table = runs[0] / 'val.csv'
    lines = table.read_text(encoding='utf-8').splitlines()
    cells = lines[2].split(',')
    lines[2] = ','.join([*cells[:4], 'nan', *cells[5:]])
    table.write_text('\n'.join(lines), encoding='utf-8')
    page = open_page(write_report(runs, runs[0].parent / 'both.html', frames=1, metric='distance'))
    frames = page.get_by_role('table', name='By frame, val')
    cell = 'tbody tr td:nth-child(5)'
    button = frames.locator('th').get_by_role('button', name='soft').nth(1)
    for _ in range(2):
        button.click()
        assert frames.locator(cell).last.inner_text() == '–'
        assert frames.locator(cell).last.get_attribute('title') == 'no number'
    # the second run is sharper: its distance is less, and is the best of each frame that both have
    assert frames.locator('tbody tr td:nth-child(6).best').count() == 5
    assert frames.locator('td:nth-child(5).best').count() == 0


def test_a_frame_in_the_table_opens_its_pictures(compared, open_page):
    page = open_page(compared)
    links = page.get_by_role('table', name='By frame, val').locator('td button')
    row = links.last.locator('xpath=ancestor::tr').locator('td').all_inner_texts()
    links.last.click()
    assert f'{row[0]}_{row[1]}' in page.locator('.pane.left img').get_attribute('alt')


def test_a_phone_shows_it_without_sideways_scrolling_and_by_touch(compared, browser, open_page):
    page = open_page(compared, screen={'width': 360, 'height': 740}, has_touch=True, is_mobile=True)
    page.set_viewport_size({'width': 360, 'height': 740})
    width = page.evaluate('document.documentElement.scrollWidth')
    assert width <= 360
    assert page.evaluate('innerWidth') == 360
    box = page.locator('.stage').bounding_box()
    page.locator('.stage').scroll_into_view_if_needed()
    box = page.locator('.stage').bounding_box()
    page.touchscreen.tap(box['x'] + box['width'] * 0.25, box['y'] + 40)
    assert seen_left(page) == pytest.approx(0.25, abs=0.02)


def test_a_name_with_markup_stays_text(tmp_path, truth, open_page):
    run = make_run(tmp_path, 'odd', truth, blur=1.0, name=MARKUP)
    record = json.loads((run / 'test.json').read_text(encoding='utf-8'))
    record['datasets'] = {MARKUP: record['datasets']['val']}
    (run / 'test.json').write_text(json.dumps(record), encoding='utf-8')
    page = open_page(write_report([run], frames=1))
    assert page.locator('h1').inner_text() == MARKUP
    assert page.locator('h2').first.inner_text() == MARKUP
    assert page.title() == MARKUP
    assert page.locator('img[src=x]').count() == 0
