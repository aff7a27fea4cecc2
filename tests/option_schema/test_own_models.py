"""PDAN's options go with the models that read them."""

import pytest
from option_checks import check, refusal, warned
from small_run import changed, test_options, train_options, without

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options


class TestOwnModels:
    """PDAN's options go with the models that read them."""

    def options(self, **further):
        network = {'type': 'PDAN', 'num_feat': 16, 'num_group': 1, 'num_block': 1, 'fuse_levels': 1}
        options = {**train_options(), 'model_type': 'DualSupervisionModel', 'network_g': {**network, **further}}
        options['train'].update(
            {'deblur_opt': {'type': 'L1Loss', 'loss_weight': 0.5}, 'precision': 'bf16', 'channels_last': True}
        )
        options['train']['scheduler'] = {
            'type': 'ReduceLROnPlateau',
            'factor': 0.5,
            'patience': 100,
            'threshold': 1e-4,
            'smoothing': 0.9,
            'min_lr': 1e-7,
        }
        return options

    def test_all_of_them_pass(self):
        check(self.options())
        check({**self.options(), 'model_type': 'DualSupervisionModel', 'network_g': train_options()['network_g']})

    def test_the_branch_needs_what_trains_it(self):
        assert 'train.deblur_opt: missing' in refusal(without(self.options(), 'train.deblur_opt'))
        check(without(self.options(deblur_branch=False), 'train.deblur_opt'))

    def test_another_model_is_told_to_leave_the_branch_out(self):
        options = {**self.options(), 'model_type': 'RestorationModel'}
        text = refusal(options)
        assert 'network_g.deblur_branch: found true, the default' in text
        assert (
            'train.deblur_opt: RestorationModel does not read it; it is read by model_type DualSupervisionModel' in text
        )

    @pytest.mark.parametrize(
        ('key', 'values', 'wrong', 'expected'),
        [
            ('train.precision', ['fp32', 'bf16', 'fp16'], 'half', "'fp32', 'bf16' or 'fp16'"),
            ('train.tf32', [True, False], 'yes', 'true or false'),
            ('train.compile', [True, False], 1, 'true or false'),
            ('train.channels_last', [True, False], 1, 'true or false'),
            ('train.accumulation_steps', [1, 8], 0, 'a whole number, 1 or more'),
            ('train.accumulation_steps', [2], 1.5, 'a whole number, 1 or more'),
            ('train.grad_clip_norm', [0.5, 1, None], 0, 'a number above 0'),
            ('train.max_skipped_steps', [1, 100], 0, 'a whole number, 1 or more'),
            ('val.precision', ['fp32', 'bf16', 'fp16'], 'bf32', "'fp32', 'bf16' or 'fp16'"),
            ('val.self_ensemble', [True, False], 8, 'true or false'),
            ('val.tile', ['auto', 64, None], 'whole', "pixels of the input, 16 or more, or 'auto'"),
            ('val.local_pooling', [96, 1, None], 0, 'a whole number, 1 or more'),
        ],
    )
    def test_the_engine_s_options_are_restoration_model_s_alone(self, key, values, wrong, expected):
        options = {**train_options(), 'model_type': 'RestorationModel'}
        for value in values:
            check(changed(options, key, value))
            check(changed(self.options(), key, value))
        assert f'my.yml: {key}: found' in (text := refusal(changed(options, key, wrong)))
        assert expected in text
        (line,) = warned(changed(train_options(), key, values[0]))
        assert line.startswith(f'my.yml: {key}: SRModel does not read it; it is read by model_type RestorationModel, ')

    def test_the_engine_s_options_are_told_when_misspelt(self):
        options = {**train_options(), 'model_type': 'RestorationModel'}
        assert "did you mean 'accumulation_steps'?" in refusal(changed(options, 'train.acumulation_steps', 2))
        assert "did you mean 'precision'?" in refusal(changed(options, 'val.precison', 'bf16'))

    @pytest.mark.parametrize('section', [{'type': 'AdamW', 'lr': 1e-4}, {'type': 'Adam', 'lr': 1e-4, 'fused': False}])
    def test_optimizers_of_its_own(self, section):
        options = {**train_options(), 'model_type': 'RestorationModel'}
        check(changed(options, 'train.optim_g', section))
        assert 'train.optim_g.fusd' in refusal(changed(options, 'train.optim_g', {**section, 'fusd': True}))

    def test_a_test_takes_its_own_precision(self):
        options = {**test_options(), 'model_type': 'RestorationModel'}
        check(changed(options, 'val.precision', 'bf16'), is_train=False)
        (line,) = warned(changed(test_options(), 'val.precision', 'bf16'), is_train=False)
        assert 'val.precision: SRModel does not read it' in line

    def test_options_of_a_validation_that_need_another_are_told(self):
        options = {**test_options(), 'model_type': 'RestorationModel'}
        options['val'] |= {'tile': 64, 'tile_overlap': 16, 'submission': True, 'save_img': True}
        check(options, is_train=False)
        assert 'less than half of tile: 64' in refusal(changed(options, 'val.tile_overlap', 32), is_train=False)
        assert 'found without val.tile' in refusal(without(options, 'val.tile'), is_train=False)
        assert 'set save_img: true' in refusal(changed(options, 'val.save_img', False), is_train=False)

    def test_the_toolbox_s_model_reads_none_of_them(self):
        lines: list[str] = []
        options = {**self.options(deblur_branch=False), 'model_type': 'SRModel'}
        with pytest.raises(RequestError) as refused:
            check_options(options, 'my.yml', is_train=True, warn=lines.append)
        for key in ('deblur_opt', 'scheduler.type'):
            assert f'train.{key}: ' in str(refused.value)
        for key, line in zip(('precision', 'channels_last'), lines, strict=True):
            assert f'train.{key}: ' in line
            assert 'it is read by model_type RestorationModel, DualRegressionModel, DualSupervisionModel' in line

    @pytest.mark.parametrize(
        ('key', 'value'),
        [
            ('train.precision', 'fp64'),
            ('train.scheduler.patience', 0),
            ('train.scheduler.factor', 2),
            ('train.scheduler.facter', 0.5),
        ],
    )
    def test_values_out_of_range_are_told(self, key, value):
        assert key.rpartition('.')[0] in refusal(changed(self.options(), key, value))

    def test_the_data_set_s_own_words(self):
        words = {'type': 'REDSPairedDataset', 'dataroot_lq_sharp': 'sharp', 'frames': 'val300', 'use_brightness': True}
        options = self.options()
        options['datasets']['train'].update(words)
        check(options)
        assert "did you mean 'frames'?" in refusal(changed(options, 'datasets.train.frame', 'all'))
        options['datasets']['train']['sources'] = [{'dataroot_gt': 'a', 'dataroot_lg': 'b'}]
        assert "sources.0.dataroot_lg: unknown key; did you mean 'dataroot_lq'?" in refusal(options)
        for storage, text in (
            ({'type': 'disk', 'db_path': 'x'}, 'sources.0.io_backend.db_path: '),
            ({'type': 'lmbd'}, 'sources.0.io_backend.type: '),
        ):
            options['datasets']['train']['sources'] = [{'dataroot_gt': 'a', 'io_backend': storage}]
            assert text in refusal(options)
        options['datasets']['val'] |= {'type': 'REDSPairedDataset', 'sources': [{'dataroot_gt': 'a', 'weight': 2}]}
        options['datasets']['train']['sources'] = [{'dataroot_gt': 'a', 'weight': 2}]
        (line,) = warned(options)
        assert 'datasets.val.sources.0.weight: it has no effect' in line
        options['datasets']['train']['sources'] = ['datasets/x']
        assert 'sources.0: ' in refusal(options)
        options['datasets']['train']['sources'] = {'a': 1}
        assert 'expected a list of sections with dataroot_gt and dataroot_lq' in refusal(options)


@pytest.mark.parametrize('phase', ['train', 'val'])
@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'jpeg_quality': [40, 95], 'jpeg_prob': 1.2}, '.jpeg_prob: found 1.2; expected a number from 0 to 1'),
        ({'noise_sigma': [10, 0]}, '.noise_sigma: found [10, 0]; expected grey levels from 0 to 255'),
        ({'noise_sgima': 4}, ".noise_sgima: unknown key; did you mean 'noise_sigma'?"),
        ({'noise_sigma': 4, 'poisson': 1}, '.poisson: found 1; expected true or false'),
        ({'noise_sigma': 4, 'resize': 'area'}, ".resize: found the text 'area'; expected a list"),
        ({'jpeg_prob': ~0, 'noise_sigma': 4}, '.jpeg_prob: found -1; expected a number from 0 to 1'),
        ({'poisson': True, 'jpeg_quality': 80}, ': poisson without noise_sigma'),
        ({}, ': degrades nothing'),
        (80, ': found 80; expected a section of keys'),
    ],
)
def test_a_degradation_is_checked_in_every_data_set(phase, values, text):
    options = train_options()
    options['datasets'].setdefault('val', {**options['datasets']['train'], 'name': 'val'})
    options['datasets'][phase] |= {'type': 'REDSPairedDataset'}
    check(changed(options, f'datasets.{phase}.degradation', {'noise_sigma': 4, 'jpeg_quality': None}))
    wrong = refusal(changed(options, f'datasets.{phase}.degradation', values))
    assert f'my.yml: datasets.{phase}.degradation{text}' in wrong
