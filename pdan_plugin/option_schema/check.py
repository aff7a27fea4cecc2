"""Checks an option file before the toolbox reads it.

sections.py defines the sections and their values. known_keys.py adds the further keys that keys_read.py finds in the
source of a model or data set.
constructors.py and optimization.py find the keywords of a network, loss, metric or optimizer in its signature.
agreement.py checks options against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from basicsr.utils import FileClient
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.agreement import check_agreement
from pdan_plugin.option_schema.constructors import (
    Problem,
    check_keywords,
    check_registered,
    find_registered,
    is_own,
    unknown_name,
    wrong_value,
)
from pdan_plugin.option_schema.keys_read import is_named, keys_read
from pdan_plugin.option_schema.known_keys import (
    FOLDERS_SET_BY_TOOLBOX,
    due_in_data_set,
    keys_of_data_set,
    keys_of_paths,
    keys_of_section,
    keys_of_source,
)
from pdan_plugin.option_schema.optimization import check_optimizer, check_scheduler
from pdan_plugin.option_schema.option_yaml import unshared
from pdan_plugin.option_schema.perceptual_loss import check_perceptual_loss
from pdan_plugin.option_schema.spelling import did_you_mean, misspelt
from pdan_plugin.option_schema.unset_keys import leave_unset_out
from pdan_plugin.option_schema.validation import check_values, dotted


def check_options(
    opt: dict[str, Any],
    path: str | Path,
    *,
    is_train: bool,
    place: Callable[[str], str] | None = None,
    repeated: Sequence[Problem] = (),
    warn: Callable[[str], None] | None = None,
    strict: bool = False,
) -> None:
    """Checks a whole option file, as read by ``option_file.load_option_file``, after the plugins were loaded.

    A null key counts as not given. A key that nothing reads is rejected if it is a near-misspelling of a key that is
    read, or a network or loss that would be ignored. Any other unread key is a warning. What another plugin's model or
    data set reads is not fully known: a key that its package names anywhere counts as read, and where it reads keys
    that only a run knows (``opt[name]``), no unread key is more than a warning.

    Args:
        opt: The options; not changed.
        path: Their file, for the message.
        is_train: True for training (requires ``datasets.train``, ``train`` and ``logger``), False for a test (requires
            ``val``; ``train`` and ``logger`` are not used).
        place: Returns the file in which a dotted key is written, ``OptionFile.place``; without it, ``path`` is used.
        repeated: Warnings from reading the file, ``OptionFile.repeated()``.
        warn: Called with one line for each warning.
        strict: Whether warnings are rejected too.

    Raises:
        RequestError: Lists all problems, one per line: file, dotted key, what was found, what was expected, and the
            closest known spelling.
    """
    opt = unshared(opt)
    leave_unset_out(opt)
    refused, warned = [], []
    for problem in dict.fromkeys([*repeated, *_problems(opt, is_train)]):
        line = f'{place(problem.key) if place else path}: {problem.key}: {problem.text}'
        (warned if problem.is_warning and not strict else refused).append(line)
    if warn is not None:
        for line in warned:
            warn(line)
    if refused:
        count = 'one problem' if len(refused) == 1 else f'{len(refused)} problems'
        raise RequestError(f'{count} in the options:\n' + '\n'.join(refused))


def _problems(opt: dict[str, Any], is_train: bool) -> list[Problem]:
    model = find_registered(MODEL_REGISTRY, opt.get('model_type'))
    networks = [str(key) for key in opt if str(key).startswith('network_')]
    problems = []
    if model is None and 'model_type' in opt:
        problems.append(Problem('model_type', unknown_name(MODEL_REGISTRY, 'model', opt['model_type'])))
    problems += _check_section(sections.TrainTop if is_train else sections.TestTop, opt, '', model)
    for key in networks:
        if isinstance(opt[key], Mapping):
            problems += check_registered(ARCH_REGISTRY, 'arch', opt[key], key)
        elif key != 'network_g':
            problems.append(Problem(key, wrong_value(opt[key], 'a section with type: NAME_OF_THE_ARCH')))
    problems += _check_datasets(opt.get('datasets'), is_train)
    problems += _check_paths(opt.get('path'), networks, model)
    for key, schema in (
        ('train', sections.Train),
        ('val', sections.TrainVal if is_train else sections.Val),
        ('logger', sections.Logger),
        ('dist_params', sections.Distributed),
    ):
        values = opt.get(key)
        if isinstance(values, Mapping):
            # a test does not use train and logger: their keys are checked, but none is required
            due = is_train or key not in ('train', 'logger')
            reader = None if key in ('logger', 'dist_params') else model
            is_read = key in ('logger', 'dist_params') or model is not None
            problems += _check_section(schema, values, key, reader, due=due, is_read=is_read)
    if isinstance(opt.get('train'), Mapping):
        problems += _check_train(opt['train'], model)
    problems += _check_metrics(opt)
    wandb = opt['logger'].get('wandb') if isinstance(opt.get('logger'), Mapping) else None
    if isinstance(wandb, Mapping):
        problems += _check_section(sections.Wandb, wandb, 'logger.wandb', None)
    return problems + check_agreement(opt, model, is_train)


def _check_section(
    schema: type[sections.Options],
    values: Mapping[str, Any],
    key: str,
    reader: Any,
    *,
    due: bool = True,
    is_read: bool = True,
) -> list[Problem]:
    """Unknown keys, missing keys and wrong values of one section.

    ``reader`` is the model that also reads the section; None if no model does. ``is_read=False`` means that the model
    is unknown; then only misspellings are reported.
    """
    known = keys_of_section(schema, key, reader)
    unsure = not is_read or (reader is None and not key)
    problems = _unread(values, known, key, reader, unsure=unsure)
    return problems + check_values(schema, {word: values[word] for word in values if word in known}, key, due)


def _unread(
    values: Mapping[str, Any],
    known: Collection[str],
    key: str,
    reader: Any = None,
    *,
    name: str | None = None,
    unsure: bool = False,
) -> list[Problem]:
    """The keys of one section that nothing reads: misspellings and ignored networks or losses, and warnings.

    Args:
        values: The section.
        known: Its keys that are read.
        key: Its dotted key.
        reader: The model or data set that reads the section; None for the toolbox.
        name: Its name in messages; '' for none.
        unsure: Whether further keys may be read, because the model is unknown; then only misspellings are reported.
    """
    name = getattr(reader, '__name__', 'the toolbox') if name is None else name
    unread = f'{name} does not read it' if name else 'nothing reads it'
    models = {
        registered.removesuffix('_basicsr'): keys_read(model).read.get(key, set())
        for registered, model in (MODEL_REGISTRY if key in ('', 'train', 'val') else ())
    }
    is_foreign = reader is not None and not is_own(reader)
    may_read = is_foreign and ('' if key.startswith('datasets.') else key) in keys_read(reader).computed
    candidates = set(known)
    if unsure:
        candidates = candidates.union(*models.values())
    if unsure or is_foreign:  # its own keys may be close to a known one
        candidates -= set(values)
    problems = []
    for word in [str(word) for word, value in values.items() if word not in known and value is not None]:
        if is_foreign and is_named(word, reader.__module__.split('.')[0]):
            continue
        readers = [model for model, keys in models.items() if word in keys]
        ignored = _ignored_part(word, values[word], key)
        close = None if readers else misspelt(word, candidates)
        by_model = f'; it is read by model_type {some_of(readers, 4)}' if readers else ''
        if may_read:
            guess = f"; did you mean '{close}'?" if close else ''
            text, is_warning = f'{name} does not name it, but may read it: it reads computed keys here{guess}', True
        elif close is not None:
            text, is_warning = f"unknown key{f', {unread}' if name else ''}; did you mean '{close}'?", False
        elif unsure:
            continue
        elif ignored is not None:
            text = f'{unread}{by_model}; this {ignored} would be ignored{"" if readers else ": remove it"}'
            is_warning = False
        else:
            text, is_warning = f'{unread}{by_model or "; it has no effect"}', True
        problems.append(Problem(dotted(key, word), text, is_warning))
    return problems


def _ignored_part(word: str, value: Any, key: str) -> str | None:
    """'network' or 'loss', if an unread key is one by its name, or by the type in its section or list of sections."""
    if not key and word.startswith('network_'):
        return 'network'
    if key == 'train' and word.endswith('_opt'):
        return 'loss'
    if key not in ('', 'train'):
        return None
    entries = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping)]
    types = {str(each.get('type')).casefold() for each in entries}
    for part, registry in (('network', ARCH_REGISTRY), ('loss', LOSS_REGISTRY)):
        if types & {name.removesuffix('_basicsr').casefold() for name, _ in registry}:
            return part
    return None


def _check_datasets(datasets: Any, is_train: bool) -> list[Problem]:
    problems: list[Problem] = []
    if not isinstance(datasets, Mapping):
        return problems
    phases = ('train', 'val') if is_train else ('test', 'val')
    for word, values in datasets.items():
        phase, key = str(word).split('_')[0], f'datasets.{word}'
        if phase not in phases or (phase == 'train' and word != 'train'):
            allowed = 'train, val, val_2 and so on' if is_train else 'test, test_2, val and so on'
            problems.append(Problem(key, f'unknown phase{did_you_mean(str(word), phases)}; expected {allowed}'))
        elif not isinstance(values, Mapping):
            problems.append(Problem(key, wrong_value(values, 'a section that describes a data set')))
        else:
            problems += _check_dataset(values, key, sections.TrainDataSet if phase == 'train' else sections.DataSet)
    if is_train and 'train' not in datasets:
        problems.append(Problem('datasets.train', 'missing; training needs a data set'))
    if not is_train and not datasets:
        problems.append(Problem('datasets', 'empty; expected at least one data set to test on'))
    return problems


def _check_dataset(values: Mapping[str, Any], key: str, schema: type[sections.DataSet]) -> list[Problem]:
    if 'type' not in values:
        return [Problem(f'{key}.type', 'missing; expected the name of a registered data set')]
    owner = find_registered(DATASET_REGISTRY, values['type'])
    if owner is None:
        return [Problem(f'{key}.type', unknown_name(DATASET_REGISTRY, 'data set', values['type']))]
    known, own = keys_of_data_set(owner), is_own(owner)
    problems = _unread(values, known, key, owner)
    problems += check_values(schema, {word: values[word] for word in values if word in known}, key)
    if 'degradation' in known and isinstance(values.get('degradation'), Mapping):
        given = {word: value for word, value in values['degradation'].items() if value is not None}
        problems += _unread(given, sections.Degradation.model_fields, f'{key}.degradation', name='')
        problems += check_values(sections.Degradation, given, f'{key}.degradation')
    if own:
        due = due_in_data_set(owner, is_training=schema is sections.TrainDataSet)
        further = set(values) - set(sections.DataSet.model_fields)  # a null may say something
        given = further | {word for word, value in values.items() if value is not None}
        problems += [Problem(f'{key}.{word}', f'missing; {owner.__name__} requires it') for word in sorted(due - given)]
        roots = keys_of_source(known)
        sources: Any = values.get('sources')
        expected = 'a list of sections with dataroot_gt and dataroot_lq'
        if sources is not None and not isinstance(sources, list):
            problems.append(Problem(f'{key}.sources', wrong_value(sources, expected)))
        for number, source in enumerate(sources if isinstance(sources, list) else []):
            if not isinstance(source, Mapping):
                problems.append(Problem(f'{key}.sources.{number}', wrong_value(source, 'a section with dataroot_gt')))
            else:
                problems += _unread(source, roots, f'{key}.sources.{number}', name='')
                problems += _check_storage(source.get('io_backend'), f'{key}.sources.{number}.io_backend', own=own)
                if schema is not sections.TrainDataSet and source.get('weight') is not None:
                    text = 'it has no effect: outside of training every sample is read once'
                    problems.append(Problem(f'{key}.sources.{number}.weight', text, is_warning=True))
    return problems + _check_storage(values.get('io_backend'), f'{key}.io_backend', own=own)


def _check_storage(storage: Any, key: str, *, own: bool) -> list[Problem]:
    backends = FileClient._backends
    if not isinstance(storage, Mapping):
        return []
    name = storage.get('type')
    if name in backends:
        keywords = {word: value for word, value in storage.items() if word != 'type'}
        return check_keywords(backends[name], keywords, key, provided=('db_paths', 'client_keys'))
    return [Problem(f'{key}.type', wrong_value(name, f'one of {", ".join(backends)}'))] if own else []


def _check_paths(paths: Any, networks: Collection[str], model: Any) -> list[Problem]:
    """Checks ``path``: for each network its weights, their key, and whether they must fit exactly."""
    if not isinstance(paths, Mapping):
        return []
    problems: list[Problem] = []
    rest = dict(paths)
    labels = {network.removeprefix('network_') for network in networks}
    read = keys_of_paths(model)
    for start, schema_key in (
        ('pretrain_network_', 'pretrain_network'),
        ('param_key_', 'param_key'),
        ('strict_load_', 'strict_load'),
    ):
        for word in [word for word in rest if str(word).startswith(start)]:
            if word.removeprefix(start) in labels or word in read or rest[word] is None:
                value = rest.pop(word)
                problems += [
                    Problem(f'path.{word}', problem.text)
                    for problem in check_values(sections.NetworkPaths, {schema_key: value}, 'path')
                ]
        read |= {f'{start}{label}' for label in labels}
    for word in [word for word in rest if word in FOLDERS_SET_BY_TOOLBOX]:
        text = 'it has no effect: the toolbox sets this folder itself, under the working folder'
        if rest.pop(word) is not None:
            problems.append(Problem(f'path.{word}', text, is_warning=True))
    problems += _unread(rest, read, 'path', model)
    return problems + check_values(sections.Paths, rest, 'path')


def _check_train(train: Mapping[str, Any], model: Any) -> list[Problem]:
    problems: list[Problem] = []
    own = model is None or is_own(model)
    for word, values in train.items():
        key = f'train.{word}'
        if str(word).startswith('optim_'):
            problems += check_optimizer(values, key, model)
        elif word == 'scheduler':
            problems += check_scheduler(values, key, model)
        elif str(word).endswith('_opt') and values is not None:
            # another plugin's model may use such keys for something other than a loss
            named = isinstance(values, Mapping) and find_registered(LOSS_REGISTRY, values.get('type')) is not None
            if own or named or word in ('pixel_opt', 'perceptual_opt', 'gan_opt'):
                problems += check_registered(LOSS_REGISTRY, 'loss', values, key)
            if isinstance(values, Mapping) and named:
                problems += check_perceptual_loss(find_registered(LOSS_REGISTRY, values.get('type')), values, key)
    return problems


def _check_metrics(opt: Mapping[str, Any]) -> list[Problem]:
    metrics = opt['val'].get('metrics') if isinstance(opt.get('val'), Mapping) else None
    problems = []
    for name, values in metrics.items() if isinstance(metrics, Mapping) else ():
        key = f'val.metrics.{name}'
        problems += check_registered(
            METRIC_REGISTRY, 'metric', values, key, provided=('img', 'img2'), extra=('better',)
        )
        if isinstance(values, Mapping) and values.get('better', 'higher') not in ('higher', 'lower'):
            problems.append(Problem(f'{key}.better', wrong_value(values['better'], 'higher or lower')))
    return problems
