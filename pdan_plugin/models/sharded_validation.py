"""Validation and test in which every rank takes its share of the pictures; the scores do not depend on how many."""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import imwrite, tensor2img
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from pdan_plugin.models.result_names import result_name
from pdan_plugin.precision import autocast, full_float32
from pdan_plugin.training.history import run_history
from pdan_plugin.training.interruption import stop_requested
from pdan_plugin.training.random_state import random_state_kept


class ShardedValidationModel(SRModel):
    """SRModel whose validation is shared out over the ranks, in a precision of its own; results have clip and frame in
    their names.

    Options, under ``val``:

    - ``precision``: 'fp32' (without TF32, so that scores compare with published ones), 'bf16' or 'fp16'.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.validation_precision = (opt.get('val') or {}).get('precision', 'fp32')
        self._validated_at: dict[str, int | str] = {}
        self.is_validating = False
        super().__init__(opt)

    def to_device(self, images: Tensor) -> Tensor:
        """A batch of pictures as the network takes it."""
        return images.to(self.device, non_blocking=True)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Takes a picture to validate or test; its ground truth is compared as it came, and stays where it is."""
        self.lq = self.to_device(data['lq'])

    def test(self) -> None:
        """Sets ``output`` (b, c, h, w), float32, from ``lq``: by the averaged network where there is one."""
        # Never through DistributedDataParallel: ranks may hold different numbers of images, and its buffer broadcast
        # waits. Nor compiled: each size of picture would be compiled anew.
        network = self._validated_network()
        was_training = network.training
        network.eval()
        # a network may keep a tensor from here for training, which inference mode forbids
        with (
            torch.no_grad(),
            torch.compiler.set_stance('force_eager'),
            full_float32(),
            autocast(self.device, self.validation_precision),
        ):
            self.output = network(self.lq).float()
        network.train(was_training)

    def _validated_network(self) -> nn.Module:
        return self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)

    def dist_validation(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def _validate(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Scores the data set, each rank its share (images rank, rank + world, ...).

        Every image's scores are gathered and averaged in the data set's order, so the numbers do not depend on how
        many ranks there are. Every rank ends with the same ``metric_results``. What data set or network draw is not
        missing to the training. In a training run that was asked to stop, it is broken off and leaves no result.
        """
        dataset_opt: dict[str, Any] = dataloader.dataset.opt  # pyright: ignore[reportAttributeAccessIssue]
        dataset_name = dataset_opt['name']
        if self.is_train and self._validated_at.get(dataset_name) == current_iter:
            return  # the trainer validates once more at its end, with nothing new to see
        roots = [source.get('dataroot_lq') for source in dataset_opt.get('sources') or [dataset_opt]]
        metrics_opt = self.opt['val'].get('metrics') or {}
        rank, world_size = get_dist_info()
        total = len(dataloader.dataset)  # pyright: ignore[reportArgumentType]
        shard = range(rank, total, world_size)
        # a generator of its own: starting a loader draws a seed, which is none of the training's draws
        dataloader = DataLoader(
            Subset(dataloader.dataset, shard),
            batch_size=1,
            num_workers=dataloader.num_workers,
            pin_memory=dataloader.pin_memory,
            worker_init_fn=dataloader.worker_init_fn,
            generator=torch.Generator(),
        )

        if self.is_train and world_size > 1:
            _take_buffers_of_rank_zero(self._validated_network())
        scores: dict[int, dict[str, float]] = {}
        show_bar = bool(self.opt['val'].get('pbar')) and rank == 0
        with (
            random_state_kept(self.device),
            tqdm(total=len(shard), unit='image', desc=dataset_name, disable=not show_bar) as bar,
        ):
            for index, data in zip(shard, dataloader, strict=True):
                if self.is_train and stop_requested():
                    break
                name = result_name(data['lq_path'][0], roots)
                scores[index] = self._validate_image(data, dataset_name, name, current_iter, metrics_opt, save_img)
                bar.update()
        scores = _gather(scores, world_size)
        if len(scores) < total:
            return
        self._validated_at[dataset_name] = current_iter
        if not metrics_opt:
            if self.is_train:
                run_history(self.opt).add_validation(int(current_iter), dataset_name, {})
            return
        self.metric_results = {
            metric: math.fsum(scores[index][metric] for index in range(total)) / total for metric in metrics_opt
        }
        if self.is_train:  # in a test there is one result and nothing to be best of
            self.note_results(dataset_name, self.metric_results, int(current_iter))
            run_history(self.opt).add_validation(int(current_iter), dataset_name, self.metric_results)
        if rank == 0:
            self._log_validation_metric_values(current_iter, dataset_name, tb_logger)

    def note_results(self, dataset_name: str, results: dict[str, float], iteration: int) -> None:
        """Takes a validation's results for the best so far where they are.

        A resumed run may have other metrics than the one that saved its state: the best of a metric that is new, or
        better in the other direction now, begins anew, and a result that is no longer asked for is left out.
        """
        metrics_opt = (self.opt.get('val') or {}).get('metrics') or {}
        if not hasattr(self, 'best_metric_results'):
            self.best_metric_results = {}
        for metric, value in results.items():
            if metric not in metrics_opt:
                continue
            better = metrics_opt[metric].get('better', 'higher')
            record = self.best_metric_results.setdefault(dataset_name, {})
            if metric not in record or record[metric]['better'] != better:
                worst = float('-inf') if better == 'higher' else float('inf')
                record[metric] = {'better': better, 'val': worst, 'iter': -1}
            self._update_best_metric_result(dataset_name, metric, value, iteration)

    def _validate_image(
        self,
        data: dict[str, Any],
        dataset_name: str,
        name: str,
        current_iter: int | str,
        metrics_opt: dict[str, Any],
        save_img: bool,
    ) -> dict[str, float]:
        self.is_validating = True
        self.feed_data(data)  # a plugin's model may feed its network more than lq
        self.test()
        self.is_validating = False
        images = {'img': tensor2img(self.output)}
        if 'gt' in data:
            images['img2'] = tensor2img(data['gt'])
        del self.lq, self.output

        if save_img:
            folder = os.path.join(self.opt['path']['visualization'], dataset_name)
            if self.opt['is_train']:
                path = os.path.join(folder, name, f'{name}_{current_iter}.png')
            else:
                suffix = self.opt['val'].get('suffix')
                path = os.path.join(folder, f'{name}_{suffix}.png' if suffix else f'{name}.png')
            imwrite(images['img'], path)
        return {metric: float(calculate_metric(images, opt)) for metric, opt in metrics_opt.items()}


def _take_buffers_of_rank_zero(network: nn.Module) -> None:
    """Each rank has running statistics of its own samples; those of rank 0 are saved, so those are validated."""
    for buffer in network.buffers():
        shared = buffer.contiguous()
        distributed.broadcast(shared, src=0)
        buffer.copy_(shared)


def _gather(scores: dict[int, dict[str, float]], world_size: int) -> dict[int, dict[str, float]]:
    if world_size == 1:
        return scores
    shards: list[Any] = [None] * world_size
    distributed.all_gather_object(shards, scores)
    return {index: score for shard in shards for index, score in shard.items()}
