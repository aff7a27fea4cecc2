"""Classes of other projects whose keys the source does not say: there an unknown key is no more than a warning."""

import pytest
from basicsr.archs.edsr_arch import EDSR
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
from small_run import changed, train_options, without

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.passed_on import passed_on

PARTS = ('edge', 'colour')


class Listing(SRModel):
    def init_training_settings(self):
        for name, value in self.opt['train'].items():
            setattr(self, name, value)


class Choosing(SRModel):
    def init_training_settings(self):
        train_opt = self.opt['train']
        self.strength = train_opt.get(self.opt['name'])


class Ending(SRModel):
    def init_training_settings(self):
        self.parts = [self.opt['train'][f'{part}_opt'] for part in PARTS]


class Constant(SRModel):
    def init_training_settings(self):
        self.parts = [self.opt['train'].get(part) for part in ('edge', 'colour')]
        for part in ['mask']:
            self.mask = self.opt['train'][part]


class Wide(EDSR):
    def __init__(self, width: int = 8, **kwargs):
        super().__init__(3, 3, num_feat=width, **kwargs)


class Wider(Wide):
    def __init__(self, depth: int = 8, **kwargs):
        self.mode = kwargs.pop('mode', 'plain')
        self.odd = 'oddness' in kwargs
        super().__init__(depth, **kwargs)


class Ordering(Wide):
    def __init__(self, **kwargs):
        Wide.__init__(self, **kwargs)


class Unknown:
    def __init__(self, num_feat=8, **kwargs):
        self.network = build(num_feat, kwargs)


class Dropping:
    def __init__(self, num_feat=8, **kwargs):
        self.num_feat = num_feat


class Data:
    def __init__(self, opt):
        self.opt = opt
        self.root = opt[opt['name']]


def build(*_arguments):
    pass


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    for registry, owners in (
        (MODEL_REGISTRY, (Listing, Choosing, Ending, Constant)),
        (ARCH_REGISTRY, (Wide, Wider, Unknown, Dropping)),
        (DATASET_REGISTRY, (Data,)),
    ):
        for owner in owners:
            monkeypatch.setitem(registry._obj_map, owner.__name__, owner)


def problems(options, *, strict=False):
    """(refused keys, warned keys) and all lines."""
    warned: list[str] = []
    refused: list[str] = []
    try:
        check_options(options, 'x', is_train=True, warn=warned.append, strict=strict)
    except RequestError as error:
        refused = str(error).splitlines()[1:]
    keys = [[line.removeprefix('x: ').partition(': ')[0] for line in lines] for lines in (refused, warned)]
    return keys[0], keys[1], '\n'.join(refused + warned)


def _near(word):
    """A misspelling that no source of this file has as a constant."""
    return word[:-2] + word[:-3:-1]


@pytest.mark.parametrize('model', ['Listing', 'Choosing'])
@pytest.mark.parametrize('word', [_near('ema_decay'), ''.join(reversed('spets'))])
def test_a_model_that_reads_computed_keys_gets_a_warning(model, word):
    options = changed(without({**train_options(), 'model_type': model}, 'train.ema_decay'), f'train.{word}', 0.9)
    refused, warned, text = problems(options)
    assert (refused, warned) == ([], [f'train.{word}'])
    assert f'{model} does not name it, but may read it' in text
    assert ("did you mean 'ema_decay'?" in text) == word.startswith('ema')
    assert problems(options, strict=True)[0] == [f'train.{word}']


@pytest.mark.parametrize('model', ['Listing', 'Choosing'])
def test_the_other_sections_of_that_model_are_checked_as_before(model):
    options = changed({**train_options(), 'model_type': model}, f'val.{_near("suffix")}', 'x')
    assert problems(options)[0] == [f'val.{_near("suffix")}']


@pytest.mark.parametrize('model', ['Ending', 'Constant'])
def test_a_key_with_a_known_end_or_from_a_list_of_constants_is_not_computed(model):
    options = changed(without({**train_options(), 'model_type': model}, 'train.ema_decay'), 'train.mask', 1)
    assert problems(options, strict=True) == ([], [], '')
    assert problems(changed(options, f'train.{_near("ema_decay")}', 0.9))[0] == [f'train.{_near("ema_decay")}']


def test_a_data_set_that_reads_computed_keys_gets_a_warning():
    options = without(train_options(), 'datasets.train.use_hflip')
    options['datasets']['train'] |= {'type': 'Data', _near('pin_memory'): True}
    refused, warned, _ = problems(options)
    assert refused == []
    assert f'datasets.train.{_near("pin_memory")}' in warned


@pytest.mark.parametrize(
    ('network', 'word', 'value', 'outcome'),
    [
        ('Wide', 'num_block', 2, 'passes'),  # EDSR's
        ('Wide', 'num_blok', 2, 'refused'),  # EDSR has no **kwargs: it would fail
        ('Wide', 'weather', 2, 'refused'),
        ('Wide', 'num_feat', 2, 'refused'),  # given by Wide itself
        ('Wider', 'num_block', 2, 'passes'),  # through two constructors
        ('Wider', 'mode', 'x', 'passes'),
        ('Wider', 'oddness', 1, 'passes'),
        ('Wider', 'width', 2, 'refused'),  # given by Wider, in its place
        ('Unknown', 'num_fea', 2, 'warned'),
        ('Unknown', 'weather', 2, 'passes'),
        ('Dropping', 'num_fea', 2, 'refused'),  # nothing uses it
        ('Dropping', 'weather', 2, 'passes'),
    ],
)
def test_keywords_are_followed_where_kwargs_go(network, word, value, outcome):
    options = without({**train_options(), 'network_g': {'type': network, word: value}}, 'scale')
    refused, warned, _ = problems(options)
    assert refused == ([f'network_g.{word}'] if outcome == 'refused' else [])
    assert warned == ([f'network_g.{word}'] if outcome == 'warned' else [])


def test_what_is_refused_could_not_be_built():
    for keywords in ({'num_blok': 2}, {'num_feat': 2}):
        with pytest.raises(TypeError):
            Wide(**keywords)
    with pytest.raises(TypeError):
        Wider(width=2)
    assert Wider(num_block=1, mode='x').mode == 'x'


def test_a_constructor_named_by_its_class_is_followed_and_a_compiled_one_is_not():
    assert 'num_block' in passed_on(Ordering).known
    assert not passed_on(Ordering).is_unsure
    assert passed_on(dict).is_unsure
