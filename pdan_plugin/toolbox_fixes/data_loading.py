"""Epochs of the training data: their number of batches, and the position of a run in its epoch."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.models.base_model import BaseModel
from torch.utils.data import DataLoader

from pdan_plugin.data.epochs import SampleIndex, iterations_per_epoch
from pdan_plugin.errors import RequestError
from pdan_plugin.processes.process_group import restarts
from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped


@fix(
    where='train.py:45 against data/__init__.py:72',
    upstream='#113',
    symptom='training stops before total_iter, or trains 0 iterations and saves untrained weights, with exit status 0',
    behaves=lambda: _counts_whole_batches(),
)
def epochs_of_whole_batches() -> None:
    """Replaces `create_train_val_dataloader`: an epoch has as many iterations as the loader yields batches.

    With `train: accumulation_steps` the loader's batch is larger by that factor: all samples of an iteration.
    """
    train = importlib.import_module('basicsr.train')

    def create_train_val_dataloader(
        opt: dict[str, Any], logger: Any
    ) -> tuple[DataLoader, EnlargedSampler, list[DataLoader], int, int]:
        train_loader = sampler = None
        val_loaders = []
        total_epochs, total_iters = 0, int(opt['train']['total_iter'])
        parts = int(opt['train'].get('accumulation_steps') or 1)
        if restarts():  # the log file has only just been opened
            logger.info(f'Restart {restarts()} by torchrun: resuming after iteration {opt.get("resume_iter", 0)}.')
        for phase, dataset_opt in opt['datasets'].items():
            if phase != 'train' and phase.split('_')[0] != 'val':
                raise RequestError(f"datasets: {phase}: expected 'train', 'val' or 'val_...' in a training run")
            dataset = train.build_dataset(dataset_opt)
            loader_opt = dataset_opt
            if phase == 'train' and parts > 1:  # on a copy: the options keep the user's value
                loader_opt = {**dataset_opt, 'batch_size_per_gpu': dataset_opt['batch_size_per_gpu'] * parts}
            build = functools.partial(
                train.build_dataloader, dataset, loader_opt,
                num_gpu=opt['num_gpu'], dist=opt['dist'], seed=opt['manual_seed'],
            )  # fmt: skip
            if phase != 'train':
                val_loaders.append(build(sampler=None))
                logger.info(f'Number of val images/folders in {dataset_opt["name"]}: {len(dataset)}')
                continue
            ratio = dataset_opt.get('dataset_enlarge_ratio', 1)
            # A data set may have its own sampler, for example to mix several sources.
            make_sampler = getattr(dataset, 'training_sampler', functools.partial(EnlargedSampler, dataset))
            sampler = make_sampler(opt['world_size'], opt['rank'], ratio)
            train_loader = build(sampler=sampler)
            per_epoch = iterations_per_epoch(len(dataset), ratio, train_loader.batch_size or 1, opt['world_size'])
            total_epochs = math.ceil(total_iters / per_epoch)
            opt['iterations_per_epoch'] = per_epoch
            # a resumed run continues inside its epoch, at the first unused sample
            epoch, done = divmod(opt.get('resume_iter', 0), per_epoch)
            batch = train_loader.batch_size or 1
            sampler.samples_used = {epoch: done * batch}  # pyright: ignore
            sampler.samples_an_epoch = per_epoch * batch * opt['world_size']  # pyright: ignore
            describe: Any = getattr(sampler, 'describe', None)
            mixture = f'\n\tMixture: {describe()}' if describe else ''
            in_parts = f', computed in {parts} parts' if parts > 1 else ''
            logger.info(
                'Training statistics:'
                f'\n\tNumber of train images: {len(dataset)}'
                f'{mixture}'
                f'\n\tDataset enlarge ratio: {ratio}'
                f'\n\tBatch size per rank: {train_loader.batch_size}{in_parts}'
                f'\n\tRanks: {opt["world_size"]}'
                f'\n\tIterations per epoch (whole batches): {per_epoch}'
                f'\n\tTotal epochs: {total_epochs}; iters: {total_iters}.'
            )
        if train_loader is None or sampler is None:
            raise RequestError("datasets: has no 'train'; a training run needs one")
        return train_loader, sampler, val_loaders, total_epochs, total_iters

    replace(train, 'create_train_val_dataloader', create_train_val_dataloader)


@probe
def _counts_whole_batches() -> bool:
    """Whether 12 iterations with batches of 4 take 12 epochs of 6 images, and 3 images are an error."""
    train = importlib.import_module('basicsr.train')

    def total_epochs(images: int) -> int:
        opt = {
            'datasets': {'train': {'name': 'probe', 'phase': 'train', 'batch_size_per_gpu': 4}},
            'train': {'total_iter': 12}, 'num_gpu': 0, 'dist': False, 'world_size': 1, 'rank': 0, 'manual_seed': 0,
        }  # fmt: skip
        with swapped(
            train,
            build_dataset=lambda dataset_opt: range(images),
            build_dataloader=lambda dataset, *args, sampler=None, **kwargs: DataLoader(
                dataset, batch_size=4, sampler=sampler, drop_last=True
            ),
        ):
            return train.create_train_val_dataloader(opt, SILENT)[3]

    if total_epochs(6) < 12:
        return False
    try:
        total_epochs(3)
        return False
    except Exception:
        return True


@fix(
    where='train.py:117,139',
    upstream='none',
    symptom='a resume with another batch size or number of ranks trains 0 iterations, or repeats samples',
    behaves=lambda: _recomputes_the_epoch(),
)
def epoch_follows_the_iteration() -> None:
    """Recomputes a state's epoch from its iteration, with the batches per epoch of the resumed run.

    The saved epoch counts in the batches of the run that saved it. With another count the trainer may start after its
    last epoch.
    """
    published = BaseModel.resume_training

    @functools.wraps(published)
    def resume_training(self: BaseModel, resume_state: dict[str, Any]) -> None:
        published(self, resume_state)
        if 'iterations_per_epoch' in self.opt:
            resume_state['epoch'] = resume_state['iter'] // self.opt['iterations_per_epoch']

    replace(BaseModel, 'resume_training', resume_training)


@probe
def _recomputes_the_epoch() -> bool:
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'iterations_per_epoch': 5})
    state = {'epoch': 7, 'iter': 12, 'optimizers': [], 'schedulers': []}
    model.resume_training(state)
    return state['epoch'] == 2


@fix(
    where='data/data_sampler.py:33',
    upstream='none',
    symptom='a data set does not know the epoch, so its random draws depend on the number of workers',
    behaves=lambda: _indices_have_an_epoch(),
)
def indices_know_their_epoch() -> None:
    """The sampler yields `SampleIndex` instead of plain integers, in the published order."""

    def __iter__(self: EnlargedSampler) -> Iterator[SampleIndex]:
        generator = torch.Generator()
        generator.manual_seed(self.epoch)
        order = torch.randperm(self.total_size, generator=generator)[self.rank :: self.num_replicas]
        epoch, images = self.epoch, len(self.dataset)
        order = order[getattr(self, 'samples_used', {}).get(epoch, 0) :]
        return (SampleIndex(place % images, epoch, place // images) for place in order.tolist())

    replace(EnlargedSampler, '__iter__', __iter__)


@probe
def _indices_have_an_epoch() -> bool:
    first = next(iter(EnlargedSampler(range(1), 1, 0)))  # pyright: ignore[reportArgumentType]
    return hasattr(first, 'epoch') and hasattr(first, 'repeat')
