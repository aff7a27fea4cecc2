"""The base of all models here: the toolbox's SRModel with precision, accumulation, gradient guard and exact resume."""

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
from pdan_plugin.machine.compiled_regions import compile_in_place
from pdan_plugin.machine.devices import require_process_per_gpu, training_device
from pdan_plugin.machine.precision import autocast, loss_scaler, require_precision, slowness
from pdan_plugin.machine.tf32 import allow_tf32, is_tf32_allowed
from pdan_plugin.models.guarded_step import GuardedStepModel
from pdan_plugin.models.resumable import IMPLEMENTATIONS
from pdan_plugin.processes.process_group import any_rank, spread_over_ranks
from pdan_plugin.training.fused_optimizers import FUSED_DEVICES, FUSED_OPTIMIZERS
from pdan_plugin.training.gradient_guard import GradientGuard, Part
from pdan_plugin.training.plateau_schedule import PlateauSchedule
from pdan_plugin.weights.weights_file import read_weights


@MODEL_REGISTRY.register()
class RestorationModel(GuardedStepModel):
    """SRModel for any registered network, faster, guarded against non-finite steps, and exact on resume.

    Options beyond SRModel's, all under ``train``:

    - ``precision``: 'fp32', 'bf16' or 'fp16' (autocast of the forward pass; weights, losses and the optimizer stay
      float32; fp16 uses a loss scale).
    - ``tf32``: whether float32 convolutions and matrix products on CUDA may use TF32. The default is true, as for the
      toolbox's convolutions. Validation never uses TF32.
    - ``channels_last``: store the network and its input in channels-last layout; faster if the device's convolutions
      are faster in it.
    - ``compile``: torch.compile the network's repeated blocks (if it has none, the whole network) for training.
    - ``accumulation_steps``: the batch of an iteration is this many times ``batch_size_per_gpu``, computed in parts;
      one iteration is still one optimizer step.
    - ``grad_clip_norm``: a gradient with a larger norm is scaled down to this norm.
    - ``max_skipped_steps``: a step with a non-finite loss or gradient is skipped; this many in a row end the training.
      On CUDA a skipped step is reported one step later (`~pdan_plugin.models.guarded_step.GuardedStepModel`).
    - ``scheduler: {type: ReduceLROnPlateau, ...}``: :class:`~pdan_plugin.training.plateau_schedule.PlateauSchedule`.

    The training state is complete: a resumed run computes the same numbers as one that was never stopped (bit for bit
    on a CPU with the same number of ranks).
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        train_opt = opt.get('train') or {}
        self.precision: str = train_opt.get('precision', 'fp32')
        self.memory_format = torch.channels_last if train_opt.get('channels_last') else torch.contiguous_format
        self.compiles = bool(train_opt.get('compile', False))
        self.accumulation_steps = int(train_opt.get('accumulation_steps', 1))
        self.losses: OrderedDict[str, Tensor] = OrderedDict()
        self.batch: dict[str, Any] = {}
        if opt['is_train']:
            require_process_per_gpu(train_opt, opt['num_gpu'], opt['dist'])
            require_precision(training_device(opt['num_gpu']), self.precision)
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
            spread=spread_over_ranks,
        )
        super().init_training_settings()
        if self.ema_decay > 0:
            _lay_out(self.net_g_ema, self.memory_format)
        # running statistics, which a skipped step must not change
        buffers = self.get_bare_model(self.net_g).named_buffers()
        self._statistics = [buffer for name, buffer in buffers if 'running_' in name]
        get_root_logger().info(self._describe_settings())
        slow = slowness(self.device, self.precision)
        if slow is not None:
            get_root_logger().warning(f'train: {slow}.')

    def _describe_settings(self) -> str:
        tf32 = 'on' if is_tf32_allowed() else 'off'
        layout = 'channels-last' if self.memory_format is torch.channels_last else 'contiguous'
        return (
            f'Training in {self.precision} ({layout}{", compiled" if self.compiles else ""}; TF32 on CUDA {tf32}), '
            f'validation in {self.validation_precision}; {self.accumulation_steps} part(s) a step; optimizer '
            f'{type(self.optimizer_g).__name__}{" (fused)" if self.optimizer_g.defaults.get("fused") else ""}.'
        )

    def model_to_device(self, net: nn.Module) -> nn.Module:
        # before DistributedDataParallel copies the parameters' strides into its buckets
        _lay_out(net, self.memory_format)
        if not self.is_train:
            return net.to(self.device)  # unwrapped: a test shares no gradients, and DDP rejects Bicubic (no parameters)
        if self.compiles:
            compile_in_place(net)
        return super().model_to_device(net)

    def get_optimizer(
        self, optim_type: str, params: Iterable[nn.Parameter], lr: float, **kwargs: Any
    ) -> torch.optim.Optimizer:
        """The toolbox's optimizers and AdamW; Adam and AdamW are fused if the parameters' device supports it."""
        if optim_type not in FUSED_OPTIMIZERS:
            return super().get_optimizer(optim_type, params, lr, **kwargs)
        params = list(params)
        if not any(name in kwargs for name in IMPLEMENTATIONS):
            kwargs['fused'] = all(parameter.device.type in FUSED_DEVICES for parameter in params)
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

        The toolbox always loads the averaged network from 'params_ema'. If ``path: param_key_g`` is neither 'params'
        nor 'params_ema', for example for a bare state dict, it is used for the averaged network too.

        Raises:
            RequestError: the file is missing, is not a weights file, lacks ``param_key``, or (strict) does not fit the
                network. The message names the file and the keys.
        """
        network = self.get_bare_model(net)
        if net is getattr(self, 'net_g_ema', None):
            asked = self.opt['path'].get('param_key_g', 'params')
            param_key = param_key if asked in ('params', 'params_ema') else asked
        weights = read_weights(load_path, param_key, network.state_dict())
        own_names = getattr(network, 'own_names', None)
        if own_names is not None:  # a network that also accepts weights under other names
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
                'Set network_g to the network that the weights were trained with, or set path: strict_load_g: false to '
                'load what fits.'
            ) from error
        for name in set(unfit.missing_keys).difference(misfits):
            logger.warning(f'{name}: not in {load_path}; left as it was initialised (strict_load_g: false).')
        for name in unfit.unexpected_keys:
            logger.warning(f'{name}: in {load_path}, but not in the network; not loaded (strict_load_g: false).')

    # ---- training ----

    def feed_data(self, data: dict[str, Any]) -> None:
        if self.is_validating:
            super().feed_data(data)
            return
        self.batch = data
        if self.accumulation_steps == 1:
            self.load_part(data)  # otherwise `_backward` loads one part at a time

    def load_part(self, data: dict[str, Any]) -> None:
        """Copies a batch, or one part of it, to the device, into the attributes that `compute_losses` reads."""
        self.lq = self.to_device(data['lq'])
        if 'gt' in data:
            self.gt = self.to_device(data['gt'])

    def to_device(self, images: Tensor) -> Tensor:
        memory_format = self.memory_format if images.dim() == 4 else torch.preserve_format
        return images.to(self.device, memory_format=memory_format, non_blocking=True)

    def compute_losses(self) -> OrderedDict[str, Tensor]:
        """Runs the network on the loaded part. Returns the losses by their names in the log; their sum is trained."""
        with autocast(self.device, self.precision):
            self.output = self.net_g(self.lq)
        return self.output_losses(self.output, self.gt)

    def output_losses(self, output: Tensor, target: Tensor) -> OrderedDict[str, Tensor]:
        """The losses between HR output and ground truth, both (b, c, h, w), in float32."""
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
        """Weight of a part's loss in the batch's loss: 1 / ``accumulation_steps`` for a mean, 1 for a sum."""
        return 1.0 if getattr(criterion, 'reduction', 'mean') == 'sum' else 1.0 / self.accumulation_steps

    def optimize_parameters(self, current_iter: int) -> None:
        for optimizer in self.step_optimizers():
            optimizer.zero_grad()
        before = [buffer.clone() for buffer in self._statistics]
        batches = self._parts()
        parts = [self._backward(batch, is_last=batch is batches[-1]) for batch in batches]
        self.losses = OrderedDict(
            (name, torch.stack([part.losses[name] for part in parts]).sum()) for name in parts[0].losses
        )
        self.finish_step(current_iter, parts, before)

    def _parts(self) -> list[dict[str, Any]]:
        steps = self.accumulation_steps
        if steps == 1:
            return [self.batch]
        if not self.batch:
            raise RequestError(
                f'train.accumulation_steps: {type(self).__name__} overrides feed_data and keeps no batch to divide '
                'into parts; remove the option, or let the model override load_part instead'
            )
        return [{key: _share(values, index, steps) for key, values in self.batch.items()} for index in range(steps)]

    def _backward(self, batch: dict[str, Any], is_last: bool) -> Part:
        if self.accumulation_steps > 1:
            self.load_part(batch)
        with ExitStack() as alone:
            for network in self.trained_networks().values():
                if isinstance(network, nn.parallel.DistributedDataParallel) and not is_last:
                    # the gradients are averaged over the ranks once, in the last part's backward pass
                    alone.enter_context(network.no_sync())
            losses = self.compute_losses()
            self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        return Part({name: loss.detach() for name, loss in losses.items()}, batch)


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Sets the layout of the parameters, not of buffers: DDP cannot broadcast a single (1, c, 1, 1) tensor, such as an
    image mean, in channels-last layout."""
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=memory_format)


def _share(values: Any, index: int, count: int) -> Any:
    """The ``index``-th of ``count`` equal parts of a batch's values: a tensor (b, ...) or a list of length b."""
    size = len(values) // count
    return values[index * size : (index + 1) * size]
