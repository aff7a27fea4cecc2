"""The model every other one here builds on: the toolbox's SRModel, for any registered network, made an engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.precision import allow_tf32, autocast, loss_scaler, slowness
from pdan_plugin.models.resumable import IMPLEMENTATIONS, ResumableModel
from pdan_plugin.processes.process_group import any_rank
from pdan_plugin.training.gradient_guard import GradientGuard, Part, describe, report_of_all_ranks
from pdan_plugin.training.plateau_schedule import PlateauSchedule
from pdan_plugin.weights.weights_file import read_weights

# torch computes these in one kernel for all parameters, on a CPU too
FUSED_OPTIMIZERS = {'Adam': torch.optim.Adam, 'AdamW': torch.optim.AdamW}


@MODEL_REGISTRY.register()  # pyright: ignore[reportOptionalCall]
class RestorationModel(ResumableModel):
    """SRModel made fast, safe and exact after a crash, for any registered network.

    Options beyond SRModel's, all under ``train``:

    - ``precision``: 'fp32', 'bf16' or 'fp16' (autocast of the forward pass; weights, losses and the optimizer stay
      float32; fp16 with a loss scale).
    - ``tf32``: whether float32 convolutions and matrix products on CUDA may use TF32; default true, as the toolbox's
      convolutions do. Validation never does.
    - ``channels_last``: lay the network and its input out channels-last; faster where the convolutions are.
    - ``compile``: torch.compile the network for training.
    - ``accumulation_steps``: the batch of an iteration is this many times ``batch_size_per_gpu``, worked through in
      parts; one iteration stays one step of the optimizer.
    - ``grad_clip_norm``: the gradient is scaled down to this norm where it is larger.
    - ``max_skipped_steps``: a step whose loss or gradient is not finite is skipped; so many in a row end the training.
    - ``scheduler: {type: ReduceLROnPlateau, ...}``: :class:`~pdan_plugin.training.plateau_schedule.PlateauSchedule`.

    Its training state holds whatever decides what comes after; a run resumed from it computes the same numbers as one
    that was never stopped (on a CPU, with as many ranks, to the bit).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get('train') or {}
        self.precision: str = train_opt.get('precision', 'fp32')
        self.memory_format = torch.channels_last if train_opt.get('channels_last') else torch.contiguous_format
        self.compiles = bool(train_opt.get('compile', False))
        self.accumulation_steps = int(train_opt.get('accumulation_steps', 1))
        self.losses: OrderedDict[str, Tensor] = OrderedDict()
        self.batch: dict[str, Any] = {}
        # DataParallel's threads would take the device's default type, float16, and nothing would say so; and its copies
        # of a compiled network all run the first one's code, on the first one's weights.
        alone = [f'precision: {self.precision}'] * (self.precision != 'fp32') + ['compile: true'] * self.compiles
        if opt['is_train'] and alone and not opt['dist'] and opt['num_gpu'] > 1:
            raise RequestError(
                f'train.{alone[0]} on {opt["num_gpu"]} GPUs needs a process for each of them: '
                f'start the run with --nproc {opt["num_gpu"]}, or set num_gpu: 1.'
            )
        super().__init__(opt)

    # ---- set-up ----

    def init_training_settings(self) -> None:
        train_opt = self.opt['train']
        allow_tf32(train_opt.get('tf32', True))
        self.scaler = loss_scaler(self.device, self.precision)
        self.guard = GradientGuard(
            clip_norm=train_opt.get('grad_clip_norm'),
            limit=train_opt.get('max_skipped_steps', 25),
            any_rank=any_rank,
        )
        super().init_training_settings()
        if self.ema_decay > 0:
            _lay_out(self.net_g_ema, self.memory_format)
        # running statistics that a skipped step has to leave as they were
        buffers = self.get_bare_model(self.net_g).named_buffers()
        self._statistics = [buffer for name, buffer in buffers if 'running_' in name]
        get_root_logger().info(self._describe_settings())
        slow = slowness(self.device, self.precision)
        if slow is not None:
            get_root_logger().warning(f'train: {slow}.')

    def _describe_settings(self) -> str:
        tf32 = 'on' if torch.backends.cudnn.allow_tf32 else 'off'
        layout = 'channels-last' if self.memory_format is torch.channels_last else 'contiguous'
        return (
            f'Training in {self.precision} ({layout}{", compiled" if self.compiles else ""}; TF32 on CUDA {tf32}), '
            f'validation in {self.validation_precision}; {self.accumulation_steps} part(s) a step; optimizer '
            f'{type(self.optimizer_g).__name__}{" (fused)" if self.optimizer_g.defaults.get("fused") else ""}.'
        )

    def model_to_device(self, net: nn.Module) -> nn.Module:
        # Before DistributedDataParallel takes the parameters' strides for its buckets.
        _lay_out(net, self.memory_format)
        if not self.is_train:
            return net.to(self.device)  # a test has no gradients to share, and Bicubic no parameters
        if self.compiles:
            net.compile()  # in place: its parameters keep their names
        return super().model_to_device(net)

    def get_optimizer(
        self, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """The toolbox's optimizers and AdamW; Adam and AdamW fused where the parameters' device has it."""
        if optim_type not in FUSED_OPTIMIZERS:
            return super().get_optimizer(optim_type, params, lr, **kwargs)
        params = list(params)
        if not any(name in kwargs for name in IMPLEMENTATIONS):
            kwargs['fused'] = all(parameter.device.type in ('cpu', 'cuda') for parameter in params)
        return FUSED_OPTIMIZERS[optim_type](params, lr, **kwargs)

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

        The toolbox asks for the average's weights as 'params_ema' whatever ``path: param_key_g`` says. Where that names
        neither of the toolbox's two sets, as for a file that is the weights themselves, it holds for the average too.

        Raises:
            RequestError: the file is missing or no weights file, lacks ``param_key``, or (strict) does not fit the
                network; the message names the file and the keys.
        """
        network = self.get_bare_model(net)
        if net is getattr(self, 'net_g_ema', None):
            asked = self.opt['path'].get('param_key_g', 'params')
            param_key = param_key if asked in ('params', 'params_ema') else asked
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
        if self.is_validating:
            super().feed_data(data)
            return
        self.batch = data
        if self.accumulation_steps == 1:
            self.load_part(data)  # else each goes to the device when its turn comes

    def load_part(self, data: dict[str, Any]) -> None:
        """Puts a batch, or one part of it, on the device, as the attributes that `compute_losses` reads."""
        self.lq = self.to_device(data['lq'])
        if 'gt' in data:
            self.gt = self.to_device(data['gt'])

    def to_device(self, images: Tensor) -> Tensor:
        memory_format = self.memory_format if images.dim() == 4 else torch.preserve_format
        return images.to(self.device, memory_format=memory_format, non_blocking=True)

    def compute_losses(self) -> OrderedDict[str, Tensor]:
        """Runs the network on the loaded part; its losses by the name they are logged under, to be summed."""
        with autocast(self.device, self.precision):
            self.output = self.net_g(self.lq)
        return self.output_losses(self.output, self.gt)

    def output_losses(self, output: Tensor, target: Tensor) -> OrderedDict[str, Tensor]:
        """The losses of HR output against ground truth, both (b, c, h, w), in float32."""
        output = output.float()
        losses: OrderedDict[str, Tensor] = OrderedDict()
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(output, target) * self.part_share(self.cri_pix)
        if self.cri_perceptual:
            perceptual, style = self.cri_perceptual(output, target)
            if perceptual is not None:
                losses['l_percep'] = perceptual * self.part_share(self.cri_perceptual)
            if style is not None:
                losses['l_style'] = style * self.part_share(self.cri_perceptual)
        return losses

    def part_share(self, criterion: nn.Module) -> float:
        """What a part's loss counts for in the whole batch's: its share of a mean, all of a sum."""
        return 1.0 if getattr(criterion, 'reduction', 'mean') == 'sum' else 1.0 / self.accumulation_steps

    def trained_networks(self) -> dict[str, nn.Module]:
        """The networks that the losses of an iteration train, by the names of their files; wrapped as they are."""
        return {'net_g': self.net_g}

    def step_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers of these networks: all of them make the step of an iteration, or it is skipped by all."""
        return [self.optimizer_g]

    def optimize_parameters(self, current_iter: int) -> None:
        optimizers = self.step_optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        before = [buffer.clone() for buffer in self._statistics]
        batches = self._parts()
        parts = [self._backward(batch, is_last=batch is batches[-1]) for batch in batches]
        losses = OrderedDict(
            (name, torch.stack([part.losses[name] for part in parts]).sum()) for name in parts[0].losses
        )
        total = torch.stack(list(losses.values())).sum()
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        parameters = [each for optimizer in optimizers for group in optimizer.param_groups for each in group['params']]
        self.losses = losses
        if not self.guard.admits(parameters, total):
            self._skip_step(current_iter, parts)
            for buffer, value in zip(self._statistics, before, strict=True):
                buffer.copy_(value)
            return
        for optimizer in optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for scheduler in self.schedulers:
            if isinstance(scheduler, PlateauSchedule):
                scheduler.observe(total)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _parts(self) -> list[dict[str, Any]]:
        steps = self.accumulation_steps
        if steps == 1:
            return [self.batch]
        if not self.batch:
            raise RequestError(
                f'train.accumulation_steps: {type(self).__name__} has a feed_data of its own, which keeps no batch to '
                'work through in parts; take it out, or let the model override load_part instead'
            )
        return [{key: _share(values, index, steps) for key, values in self.batch.items()} for index in range(steps)]

    def _backward(self, batch: dict[str, Any], is_last: bool) -> Part:
        if self.accumulation_steps > 1:
            self.load_part(batch)
        with ExitStack() as alone:
            for network in self.trained_networks().values():
                if isinstance(network, nn.parallel.DistributedDataParallel) and not is_last:
                    # the ranks' gradients are averaged once, in the last part's backward pass
                    alone.enter_context(network.no_sync())
            losses = self.compute_losses()
            self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        return Part({name: loss.detach() for name, loss in losses.items()}, batch)

    def _skip_step(self, iteration: int, parts: list[Part]) -> None:
        losses = torch.stack([loss for part in parts for loss in part.losses.values()])
        losses_are_finite = not any_rank(not bool(torch.isfinite(losses).all()))
        logger = get_root_logger()
        scale = self.scaler.get_scale()
        self.scaler.update()
        if self.scaler.is_enabled() and losses_are_finite:
            report = f'  fp16 overflowed at a loss scale of {scale:g}; it is now {self.scaler.get_scale():g}.'
            logger.warning(self.guard.skip(iteration, report))
            return
        parameters = [
            (name if label == 'net_g' else f'{label}.{name}', parameter)
            for label, network in self.trained_networks().items()
            for name, parameter in self.get_bare_model(network).named_parameters()
        ]
        report = describe(parts, parameters)
        logger.error(self.guard.skip(iteration, report_of_all_ranks(report)))

    def model_ema(self, decay: float = 0.999) -> None:
        """Moves the averaged network towards the trained one: parameters by 1 - ``decay``, buffers all the way."""
        network = self.get_bare_model(self.net_g)
        parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
        with torch.no_grad():
            names, averages = zip(*self.net_g_ema.named_parameters(), strict=True)
            torch._foreach_mul_(averages, decay)  # pyright: ignore[reportPrivateImportUsage]
            trained = [parameters[name] for name in names]
            torch._foreach_add_(averages, trained, alpha=1 - decay)  # pyright: ignore[reportPrivateImportUsage]
            for name, buffer in self.net_g_ema.named_buffers():
                buffer.copy_(buffers[name])

    def get_current_log(self) -> OrderedDict[str, float]:
        """The last iteration's losses, averaged over the ranks.

        Read here and not at every iteration, because reading a loss makes the host wait for the GPU. The trainer
        calls it on every rank. A model with an `optimize_parameters` of its own, which leaves no losses here, logs what
        it has put into `log_dict`, as with the toolbox.
        """
        if self.losses:
            self.log_dict = self.reduce_loss_dict(self.losses)
        return self.log_dict


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Lays parameters out; buffers are left as they are: torch cannot broadcast a lone (1, c, 1, 1) tensor, such as an
    image mean, in the channels-last layout."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=memory_format)


def _share(values: Any, index: int, count: int) -> Any:
    """The ``index``-th of ``count`` equal shares of a batch's values: a tensor (b, ...) or a list of b."""
    size = len(values) // count
    return values[index * size : (index + 1) * size]
