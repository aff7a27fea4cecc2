"""The model every other one here builds on: the toolbox's SRModel, for any registered network."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.models.plateau_schedule import PlateauSchedule
from pdan_plugin.models.result_names import result_name
from pdan_plugin.models.weights_file import read_weights

AUTOCAST_DTYPES = {'fp32': None, 'bf16': torch.bfloat16}


@MODEL_REGISTRY.register()  # pyright: ignore[reportOptionalCall]
class RestorationModel(SRModel):
    """SRModel with mixed precision, sharded validation, results named by clip and frame, and weights checked on load.

    Options beyond SRModel's, all under ``train``:

    - ``precision``: 'fp32' or 'bf16' (autocast of the forward pass; weights, losses and the optimizer stay float32).
      Validation and test run without it, so that scores compare with published ones.
    - ``channels_last``: lay the network and its input out channels-last; faster where the convolutions are.
    - ``scheduler: {type: ReduceLROnPlateau, ...}``: see :class:`~pdan_plugin.models.plateau_schedule.PlateauSchedule`.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get('train') or {}
        self.autocast_dtype = AUTOCAST_DTYPES[train_opt.get('precision', 'fp32')]
        self.memory_format = torch.channels_last if train_opt.get('channels_last') else torch.contiguous_format
        self.losses: OrderedDict[str, Tensor] = OrderedDict()
        self._validated_at: dict[str, int | str] = {}
        if self.autocast_dtype is not None and not opt['dist'] and opt['num_gpu'] > 1:
            # DataParallel's threads would take the device's default type, float16, and nothing would say so.
            raise RequestError(
                f'train.precision: {train_opt["precision"]} on {opt["num_gpu"]} GPUs needs a process for each of them: '
                f'start the run with --nproc {opt["num_gpu"]}, or set num_gpu: 1.'
            )
        super().__init__(opt)

    # ---- set-up ----

    def model_to_device(self, net: nn.Module) -> nn.Module:
        # Before DistributedDataParallel takes the parameters' strides for its buckets. Buffers are left as they are:
        # torch cannot broadcast a lone (1, c, 1, 1) tensor, such as an image mean, in the channels-last layout.
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.to(memory_format=self.memory_format)
        return super().model_to_device(net)

    def setup_schedulers(self) -> None:
        scheduler_opt = self.opt['train']['scheduler']
        if scheduler_opt['type'] != 'ReduceLROnPlateau':
            super().setup_schedulers()
            return
        arguments = {key: value for key, value in scheduler_opt.items() if key != 'type'}
        self.schedulers.extend(PlateauSchedule(optimizer, **arguments) for optimizer in self.optimizers)

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Loads a toolbox weights file into ``net``.

        Raises:
            RequestError: the file is missing or no weights file, lacks ``param_key``, or (strict) does not fit the
                network; the message names the file and the keys.
        """
        network = self.get_bare_model(net)
        weights = read_weights(load_path, param_key)
        own_names = getattr(network, 'own_names', None)
        if own_names is not None:  # a network that also takes weights under other names
            weights = own_names(weights)
        logger = get_root_logger()
        logger.info(f'Loading {type(network).__name__} weights from {load_path} [{param_key}].')
        misfits: list[str] = []
        if not strict:
            own = network.state_dict()
            misfits = [name for name in weights if name in own and weights[name].shape != own[name].shape]
            for name in misfits:
                logger.warning(
                    f'{name}: {tuple(weights[name].shape)} in the file, {tuple(own[name].shape)} in the network; '
                    'left as it was initialised (strict_load_g: false).'
                )
                del weights[name]
        try:
            unfit = network.load_state_dict(weights, strict=strict)
        except RuntimeError as error:
            raise RequestError(
                f'{load_path} does not fit {type(network).__name__}:\n{error}\n'
                'Make the network what the weights were trained with, or set path: strict_load_g: false to load what '
                'fits.'
            ) from error
        for name in set(unfit.missing_keys).difference(misfits):
            logger.warning(f'{name}: not in {load_path}; left as it was initialised (strict_load_g: false).')
        for name in unfit.unexpected_keys:
            logger.warning(f'{name}: in {load_path}, but not in the network; left out (strict_load_g: false).')

    # ---- training ----

    def feed_data(self, data: dict[str, Any]) -> None:
        self.lq = self._to_device(data['lq'])
        if 'gt' in data:
            self.gt = self._to_device(data['gt'])

    def _to_device(self, images: Tensor) -> Tensor:
        memory_format = self.memory_format if images.dim() == 4 else torch.preserve_format
        return images.to(self.device, memory_format=memory_format, non_blocking=True)

    def autocast(self) -> AbstractContextManager:
        """The precision of the training forward pass."""
        if self.autocast_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def compute_losses(self) -> OrderedDict[str, Tensor]:
        """Runs the network on the batch; its losses by the name they are logged under, to be summed."""
        with self.autocast():
            self.output = self.net_g(self.lq)
        return self.output_losses(self.output, self.gt)

    def output_losses(self, output: Tensor, target: Tensor) -> OrderedDict[str, Tensor]:
        """The losses of HR output against ground truth, both (b, c, h, w), in float32."""
        output = output.float()
        losses: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(output, target)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, target)
            if perceptual is not None:
                losses['l_percep'] = perceptual
            if style is not None:
                losses['l_style'] = style
        return losses

    def optimize_parameters(self, current_iter: int) -> None:
        self.optimizer_g.zero_grad()
        losses = self.compute_losses()
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        self.optimizer_g.step()

        self.losses = OrderedDict((name, loss.detach()) for name, loss in losses.items())
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.observe(total)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def get_current_log(self) -> OrderedDict[str, float]:
        """The last iteration's losses, averaged over the ranks.

        Read here and not at every iteration, because reading a loss makes the host wait for the GPU. The trainer
        calls it on every rank.
        """
        self.log_dict = self.reduce_loss_dict(self.losses)
        return self.log_dict

    def save(self, epoch: int, current_iter: int) -> None:
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.share_between_ranks()
        super().save(epoch, current_iter)

    # ---- validation and test ----

    def test(self) -> None:
        # Never through DistributedDataParallel: ranks may hold different numbers of images, and its buffer broadcast
        # waits.
        network = self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)
        was_training = network.training
        network.eval()
        with torch.no_grad():  # a network may keep a tensor from here for training, which inference mode forbids
            self.output = network(self.lq)
        network.train(was_training)

    def dist_validation(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def _validate(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Scores the data set, each rank its share (images rank, rank + world, ...).

        Every image's scores are gathered and averaged in the data set's order, so the numbers do not depend on how
        many ranks there are. Every rank ends with the same ``metric_results``.
        """
        dataset_opt: dict[str, Any] = dataloader.dataset.opt  # pyright: ignore[reportAttributeAccessIssue]
        dataset_name = dataset_opt['name']
        if self.is_train and self._validated_at.get(dataset_name) == current_iter:
            return  # the trainer validates once more at its end, with nothing new to see
        self._validated_at[dataset_name] = current_iter
        roots = [source.get('dataroot_lq') for source in dataset_opt.get('sources') or [dataset_opt]]
        metrics_opt = self.opt['val'].get('metrics') or {}
        rank, world_size = get_dist_info()
        total = len(dataloader.dataset)  # pyright: ignore[reportArgumentType]
        shard = range(rank, total, world_size)
        if world_size > 1:
            dataloader = DataLoader(Subset(dataloader.dataset, shard), batch_size=1, num_workers=dataloader.num_workers)

        scores: dict[int, dict[str, float]] = {}
        show_bar = bool(self.opt['val'].get('pbar')) and rank == 0
        with tqdm(total=len(shard), unit='image', desc=dataset_name, disable=not show_bar) as bar:
            for index, data in zip(shard, dataloader, strict=True):
                name = result_name(data['lq_path'][0], roots)
                scores[index] = self._validate_image(data, dataset_name, name, current_iter, metrics_opt, save_img)
                bar.update()
        if not metrics_opt:
            return

        scores = _gather(scores, world_size)
        self.metric_results = {
            metric: math.fsum(scores[index][metric] for index in range(total)) / total for metric in metrics_opt
        }
        if self.is_train:  # in a test there is one result and nothing to be best of
            self._initialize_best_metric_results(dataset_name)
            for metric, value in self.metric_results.items():
                self._update_best_metric_result(dataset_name, metric, value, current_iter)
        if rank == 0:
            self._log_validation_metric_values(current_iter, dataset_name, tb_logger)

    def _validate_image(
        self,
        data: dict[str, Any],
        dataset_name: str,
        name: str,
        current_iter: int | str,
        metrics_opt: dict[str, Any],
        save_img: bool,
    ) -> dict[str, float]:
        self.feed_data(data)
        self.test()
        images = {'img': tensor2img(self.output)}
        if 'gt' in data:
            images['img2'] = tensor2img(data['gt'])
        del self.lq, self.output
        if 'gt' in data:
            del self.gt

        if save_img:
            folder = os.path.join(self.opt['path']['visualization'], dataset_name)
            if self.opt['is_train']:
                path = os.path.join(folder, name, f'{name}_{current_iter}.png')
            else:
                suffix = self.opt['val'].get('suffix')
                path = os.path.join(folder, f'{name}_{suffix}.png' if suffix else f'{name}.png')
            imwrite(images['img'], path)
        return {metric: float(calculate_metric(images, opt)) for metric, opt in metrics_opt.items()}


def _gather(scores: dict[int, dict[str, float]], world_size: int) -> dict[int, dict[str, float]]:
    if world_size == 1:
        return scores
    shards: list[Any] = [None] * world_size
    distributed.all_gather_object(shards, scores)
    return {index: score for shard in shards for index, score in shard.items()}
