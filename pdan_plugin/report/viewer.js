// Pictures: two of a frame with a divider, and the details of all frames shown.

/** Two pictures of a frame with a divider, which mouse, touch or keys move. */
function viewer(set, column) {
  const state = { frame: 0, at: 50, zoom: 1, x: 0, y: 0, left: null, right: null };
  const images = { left: make('img', { alt: '', draggable: 'false' }), right: make('img', { alt: '', draggable: 'false' }) };
  const tags = { left: make('span', { class: 'tag left' }), right: make('span', { class: 'tag right' }) };
  const spot = make('div', { class: 'spot' });
  const handle = make('div', {
    class: 'handle', role: 'slider', tabindex: '0', 'aria-label': 'Divider between the two pictures', 'aria-valuemin': '0', 'aria-valuemax': '100',
  });
  const stage = make('div', { class: 'stage' }, make('div', { class: 'pane right' }, images.right),
    make('div', { class: 'pane left' }, images.left), spot, tags.left, tags.right, handle);
  const frames = make('select', { onchange: () => { state.frame = frames.selectedIndex; fill(); } },
    ...set.frames.map((frame) => make('option', {}, `${frame.image} – ${REASONS[frame.reason]}`)));
  const sides = {};
  for (const side of ['left', 'right']) {
    sides[side] = make('select', { onchange: () => { state[side] = sides[side].value; fill(); } });
  }
  const zooms = [1, 2, 4].map((zoom) => make('button', { type: 'button', onclick: () => magnify(zoom) }, `${zoom}×`));
  const hint = make('p', { class: 'hint' });

  function choices() {
    const frame = set.frames[state.frame];
    const all = new Map();
    for (const picture of frame.pictures) {
      const value = number(picture.value);
      const score = Number.isNaN(value) ? '' : ` ${column.write(value)}`;
      all.set(`whole ${picture.kind} ${picture.label}`, { label: picture.label, score, uri: picture.whole });
    }
    for (const picture of frame.pictures) {
      if (picture.error) all.set(`error ${picture.kind} ${picture.label}`, { label: `Error of ${picture.label}`, score: '', uri: picture.error });
    }
    return all;
  }

  function fill() {
    const frame = set.frames[state.frame];
    const all = choices();
    const keys = [...all.keys()];
    const runs = keys.filter((key) => key.startsWith('whole run'));
    const other = keys.find((key) => key.startsWith('whole input')) ?? keys.find((key) => key.startsWith('whole gt'));
    if (!all.has(state.left)) state.left = runs.length > 1 ? runs[0] : other ?? runs[0];
    if (!all.has(state.right)) state.right = runs[runs.length - 1];
    for (const side of ['left', 'right']) {
      sides[side].replaceChildren(...keys.map((key) => make('option', { value: key }, all.get(key).label)));
      sides[side].value = state[side];
      const { uri, label, score } = all.get(state[side]);
      images[side].src = uri;
      images[side].alt = `${label}, frame ${frame.image}`;
      tags[side].textContent = label + score;
    }
    frames.selectedIndex = state.frame;
    const [width, height] = frame.size;
    stage.style.aspectRatio = `${width} / ${height}`;
    stage.style.maxWidth = `calc(82vh * ${width / height})`;
    const [left, top, wide, high] = frame.box;
    spot.style.cssText = `left:${(100 * left) / width}%;top:${(100 * top) / height}%;width:${(100 * wide) / width}%;height:${(100 * high) / height}%`;
    const smaller = frame.shown_width < width ? `, shown ${frame.shown_width} pixels wide` : '';
    hint.textContent = `${width}×${height}${smaller}, WebP quality ${frame.quality}. Drag the divider, or use the arrow keys on it; magnified, drag the picture. The frame marks the detail below.`;
    magnify(state.zoom);
  }

  function place() {
    state.at = Math.max(0, Math.min(100, state.at));
    stage.style.setProperty('--at', `${state.at}%`);
    handle.setAttribute('aria-valuenow', String(Math.round(state.at)));
    handle.setAttribute('aria-valuetext', `${Math.round(state.at)} percent ${tags.left.textContent}`);
    const least = 1 - state.zoom;
    state.x = Math.max(least, Math.min(0, state.x));
    state.y = Math.max(least, Math.min(0, state.y));
    for (const image of Object.values(images)) {
      image.style.transform = `translate(${100 * state.x}%, ${100 * state.y}%) scale(${state.zoom})`;
    }
  }

  /** Magnifies around the marked detail if the whole picture is shown, else around the middle of the view. */
  function magnify(zoom) {
    const { size, box } = set.frames[state.frame];
    const middle = state.zoom === 1
      ? [(box[0] + box[2] / 2) / size[0], (box[1] + box[3] / 2) / size[1]]
      : [(0.5 - state.x) / state.zoom, (0.5 - state.y) / state.zoom];
    state.zoom = zoom;
    state.x = 0.5 - middle[0] * zoom;
    state.y = 0.5 - middle[1] * zoom;
    zooms.forEach((button, at) => button.setAttribute('aria-pressed', String([1, 2, 4][at] === zoom)));
    stage.classList.toggle('zoomed', zoom > 1);
    stage.classList.toggle('close', zoom > 2);
    place();
  }

  let drag = null;
  stage.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    const divides = state.zoom === 1 || event.target === handle;
    drag = { divides, x: event.clientX, y: event.clientY };
    stage.setPointerCapture(event.pointerId);
    stage.classList.add('held');
    if (divides) { handle.focus({ preventScroll: true }); follow(event); }
    if (event.pointerType === 'mouse') event.preventDefault();
  });
  function follow(event) {
    const box = stage.getBoundingClientRect();
    if (drag.divides) state.at = (100 * (event.clientX - box.left)) / box.width;
    else {
      state.x += (event.clientX - drag.x) / box.width;
      state.y += (event.clientY - drag.y) / box.height;
      drag.x = event.clientX;
      drag.y = event.clientY;
    }
    place();
  }
  stage.addEventListener('pointermove', (event) => { if (drag) follow(event); });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
    stage.addEventListener(end, () => { drag = null; stage.classList.remove('held'); });
  }
  handle.addEventListener('keydown', (event) => {
    const step = event.shiftKey ? 10 : 2;
    const moves = { ArrowLeft: -step, ArrowDown: -step, ArrowRight: step, ArrowUp: step, PageDown: -20, PageUp: 20, Home: -100, End: 100 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    state.at += moves[event.key];
    place();
  });
  fill();
  const element = make('div', { class: 'viewer' }, make('div', { class: 'bar' }, make('label', {}, 'Frame', frames),
    make('label', {}, 'Left', sides.left), make('label', {}, 'Right', sides.right),
    make('div', { class: 'zoom', role: 'group', 'aria-label': 'Magnification' }, 'Magnify', make('div', {}, ...zooms))), stage, hint);
  /** Shows the frame with that name if it has pictures; returns whether it has. */
  const show = (image, scroll = true) => {
    const found = set.frames.findIndex((frame) => frame.image === image);
    if (found < 0) return false;
    state.frame = found;
    fill();
    if (scroll) { element.scrollIntoView({ block: 'start' }); frames.focus({ preventScroll: true }); }
    return true;
  };
  return { element, show };
}

/** The colour scale of the errors, in the place of the ground truth, which has no error. */
function errorScale(box) {
  return make('div', { class: 'scale', style: `aspect-ratio:${box[2]} / ${box[3]}` }, make('div'),
    make('p', {}, make('span', {}, '0'), make('span', {}, 'grey levels'), make('span', {}, `${content.error_range}+`)));
}

function details(set, column, show) {
  const shown = set.runs.filter((run) => set.frames.some((frame) => frame.pictures.some((one) => one.kind === 'run' && one.label === run)));
  const lacks = (frame, run) => frame.pictures.every((one) => one.kind !== 'run' || one.label !== run);
  return make('div', { class: 'frames' }, ...set.frames.map((frame) => {
    const results = frame.pictures.filter((picture) => picture.kind === 'run').map((picture) => number(picture.value));
    const figures = frame.pictures.map((picture) => {
      const value = number(picture.value);
      const score = column && !Number.isNaN(value) ? make('span', { class: picture.kind === 'run' && isBest(column, value, results) ? 'best' : null }, `${column.title} ${column.write(value)}`) : null;
      return make('figure', {}, make('img', { src: picture.detail, alt: `Detail of ${frame.image}, ${picture.label}`, width: frame.box[2], height: frame.box[3] }),
        picture.error_detail ? make('img', { src: picture.error_detail, alt: `Error of ${picture.label} there`, width: frame.box[2], height: frame.box[3] }) : null,
        picture.kind === 'gt' && frame.pictures.some((one) => one.error_detail) ? errorScale(frame.box) : null,
        make('figcaption', {}, picture.label, score));
    });
    // a run without a picture keeps its place, so that columns are the same in all frames
    const first = frame.pictures.findIndex((one) => one.kind === 'run');
    shown.forEach((run, at) => {
      if (!lacks(frame, run)) return;
      figures.splice(first + at, 0, make('figure', {}, make('div', { class: 'gone', style: `aspect-ratio:${frame.box[2]} / ${frame.box[3]}` }, 'no picture'),
        frame.pictures.some((one) => one.error_detail) ? make('div', { class: 'gone', style: `aspect-ratio:${frame.box[2]} / ${frame.box[3]}` }) : null, make('figcaption', {}, run)));
    });
    const [left, top_, width, height] = frame.box;
    return make('article', { class: 'frame' }, make('header', {}, make('h4', {}, frame.image),
      make('p', {}, `${REASONS[frame.reason]}; ${width}×${height} pixels at ${left}, ${top_}`),
      make('button', { type: 'button', onclick: () => show(frame.image) }, 'Whole frame')),
    make('div', { class: 'details', style: `--count:${Math.max(2, figures.length)};--narrow:${figures.length === 3 ? 3 : 2}` }, ...figures));
  }));
}
