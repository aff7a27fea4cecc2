// The page: a section for each data set, what was run, and the training.

function dataset(set, id) {
  const columns = columnsOf(set);
  const column = columns.find((one) => one.name === set.chosen_by && one.name !== null) ?? columns[0];
  const clips = set.clips.length > 0;
  const section = make('section', { id }, make('h2', {}, set.name),
    make('p', { class: 'sub' }, `${counted(set.total, 'image')}${clips ? ` in ${counted(set.clips.length, 'clip')}` : ''}. Means over the images${set.runs.length > 1 ? `; differences are from ${set.runs[0]}` : ''}.`),
    means(set, columns), ...set.notes.map((note) => make('p', { class: 'note' }, note)));
  let show = () => false;
  if (set.frames.length) {
    const view = viewer(set, column ?? { write: String, title: '' });
    show = view.show;
    const by = set.chosen_by === null ? '' : `, chosen by ${title(set.chosen_by)}`;
    section.append(make('h3', {}, 'Before and after'), make('p', { class: 'sub' }, `${set.frames.length} of ${counted(set.total, 'frame')} ${set.frames.length === 1 ? 'has' : 'have'} pictures here${by}.`), view.element);
    const truth = set.frames.some((frame) => frame.pictures.some((picture) => picture.kind === 'gt'));
    const several = set.frames.some((frame) => frame.pictures.filter((picture) => picture.kind === 'run').length > 1);
    const where = several ? 'Where the runs differ most' : truth ? 'Where the error is largest' : 'Where the result differs most from the input, or has the densest contours';
    section.append(make('h3', {}, 'Details'), make('p', { class: 'sub' },
      `${where} in each frame, pixel for pixel.${truth ? ` Below each, its error against the ground truth: black is none, pale yellow ${content.error_range} grey levels or more.` : ''}`),
    details(set, column?.name === null ? null : column, show));
  }
  const main = column && column.name !== null ? chart(set, column, show) : null;
  if (main) section.append(make('h3', {}, `${column.title} over the frames`), main);
  if (clips) {
    section.append(make('h3', {}, 'By clip'), sortable(`Means by clip, ${set.name}`, set, columns, set.clips,
      [{ title: 'Clip', of: (row) => row[0] }, { title: 'Images', of: (row) => row[1] }], (row) => row[2]));
  }
  const named = set.images.every((row) => row[1] && row[2]);
  const shown = new Set(set.frames.map((frame) => frame.image));
  const link = (row, text) => (shown.has(row[0]) ? make('button', { type: 'button', onclick: () => show(row[0]) }, text) : text);
  const names = named
    ? [{ title: 'Clip', of: (row) => row[1] }, { title: 'Frame', of: (row) => row[2], cell: (row) => link(row, row[2]) }]
    : [{ title: 'Image', of: (row) => row[0], cell: (row) => link(row, row[0]) }];
  if (set.images.length) {
    section.append(make('h3', {}, 'By frame'), sortable(`By frame, ${set.name}`, set, columns, set.images, names, (row) => row[3]));
  }
  return section;
}

function facts() {
  const names = [...new Set(content.runs.flatMap((run) => run.facts.map((fact) => fact[0])))];
  const head = make('tr', {}, make('td', { class: 'name at-0' }), ...content.runs.map((run) => make('th', { scope: 'col' }, swatch(run.label), run.label)));
  const rows = names.map((name) => make('tr', {}, make('th', { scope: 'row', class: 'name at-0' }, name),
    ...content.runs.map((run) => make('td', {}, run.facts.find((fact) => fact[0] === name)?.[1] ?? '–'))));
  return make('section', { id: 'runs' }, make('h2', {}, 'What was run'),
    wide(make('table', { class: 'facts' }, make('thead', {}, head), make('tbody', {}, ...rows))));
}

function curves() {
  return make('section', { id: 'training', class: 'curves' }, make('h2', {}, 'Training'), ...content.curves.flatMap((curve) => [
    make('h3', {}, content.runs.length > 1 ? `${curve.label}: experiment ${curve.experiment}` : `Experiment ${curve.experiment}`),
    curve.picture ? wide(make('img', { src: curve.picture, alt: `Losses, learning rate and scores of ${curve.experiment} over its iterations` }))
      : make('p', { class: 'note' }, curve.note)]));
}

const main = document.querySelector('main');
const nav = document.querySelector('nav');
content.datasets.forEach((set, at) => {
  main.append(dataset(set, `data-${at}`));
  nav.append(make('a', { href: `#data-${at}` }, set.name));
});
main.append(facts());
nav.append(make('a', { href: '#runs' }, 'What was run'));
if (content.curves.length) {
  main.append(curves());
  nav.append(make('a', { href: '#training' }, 'Training'));
}
document.querySelector('footer').append(`Made ${content.made}.`);
