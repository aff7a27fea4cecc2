"""DRN's training: every scale is supervised, and dual networks map each result back to the size below it.

Source: "Closed-loop Matters: Dual Regression Networks for Single Image Super-Resolution", CVPR 2020, Eq. 1, for paired
data. The pairing of networks and targets follows the authors' code (guoyongcs/DRN).
"""

from __future__ import annotations

import inspect
import math
import os
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor, nn

from pdan_plugin.archs.drn_arch import DownBlock
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.precision import autocast
from pdan_plugin.machine.tf32 import full_float32
from pdan_plugin.models.restoration_model import RestorationModel
from pdan_plugin.synthesis.bicubic import imresize


@MODEL_REGISTRY.register()
class DualRegressionModel(RestorationModel):
    """RestorationModel for DRN: ``pixel_opt`` at every scale, and a dual loss at every scale but the largest.

    The network's ``forward(x, return_all=True)`` returns its results from LR size (x1) to HR size, each twice as large
    as the one before, like :class:`~pdan_plugin.archs.drn_arch.DRN`. For 4x there are two dual networks: ``dual_x2``
    maps the x4 result to x2, ``dual_x1`` maps the x2 result to x1. Each is a DownBlock of ``num_feat`` channels.

    The losses are summed: ``l_pix``, ``l_pix_x2``, ``l_pix_x1`` of the results, ``l_dual_x2``, ``l_dual_x1`` of the
    dual networks' outputs. ``perceptual_opt`` applies to HR alone.

    The target at HR is ``gt``. At smaller sizes the authors use the LR picture of that size, a bicubic reduction of HR.
    Here the input is also blurred, so the target is the sharp picture of that size: results should be sharp at every
    scale, and a network of two convolutions cannot know the blur of a frame. At x1 it is the batch's ``lq_sharp`` if
    there is one. All others are computed from ``gt`` by MATLAB's bicubic in float32, clamped to [0, 1], not rounded to
    8 bit.

    Options, under ``train``, both required:

    - ``dual_opt``: the loss of the dual networks, like ``pixel_opt``; the authors use L1 with weight 0.1.
    - ``optim_dual``: like ``optim_g``; builds one optimizer for each dual network. The scheduler drives all of them.

    A checkpoint holds the dual networks as ``net_dual_x2_ITERATION.pth`` and so on; a resume needs them. They are not
    averaged (``ema_decay``), ``pretrain_network_g`` does not load them, and a test does not build them.

    Raises:
        RequestError: a required option is missing, the scale is not a power of two, or the network does not return the
            results of all scales.
    """

    def init_training_settings(self) -> None:
        for key, text in self.misfits(self.opt, type(self.get_bare_model(self.net_g))).items():
            raise RequestError(f'{key}: {text}')
        network_opt = self.opt['network_g']
        default = inspect.signature(type(self.get_bare_model(self.net_g))).parameters['num_feat'].default
        width, channels = network_opt.get('num_feat', default), network_opt.get('num_out_ch', 3)
        self.dual_networks: dict[str, nn.Module] = {}
        factor = int(self.opt['scale']) // 2
        while factor >= 1:
            self.dual_networks[f'dual_x{factor}'] = self.model_to_device(DownBlock(channels, width, channels)).train()
            factor //= 2
        self.cri_dual = build_loss(self.opt['train'].get('dual_opt')).to(self.device)
        super().init_training_settings()

    def setup_optimizers(self) -> None:
        super().setup_optimizers()
        self.dual_optimizers = []
        for network in self.dual_networks.values():
            arguments = dict(self.opt['train'].get('optim_dual'))
            self.dual_optimizers.append(self.get_optimizer(arguments.pop('type'), network.parameters(), **arguments))
        self.optimizers.extend(self.dual_optimizers)

    def trained_networks(self) -> dict[str, nn.Module]:
        return {**super().trained_networks(), **{f'net_{name}': each for name, each in self.dual_networks.items()}}

    def step_optimizers(self) -> list[torch.optim.Optimizer]:
        return [*super().step_optimizers(), *self.dual_optimizers]

    def load_part(self, data: dict[str, Any]) -> None:
        super().load_part(data)
        if not self.is_train:
            return
        self.targets: list[Tensor] = []  # from half of HR's size down to LR's size
        with torch.no_grad(), full_float32():
            for level in range(1, len(self.dual_networks) + 1):
                if level == len(self.dual_networks) and 'lq_sharp' in data:
                    self.targets.append(self.to_device(data['lq_sharp']))
                else:
                    self.targets.append(self.to_device(imresize(self.gt, 0.5**level).clamp_(0, 1)))

    def compute_losses(self) -> OrderedDict[str, Tensor]:
        with autocast(self.device, self.precision):
            *smaller, self.output = self.net_g(self.lq, return_all=True)
            results = [self.output, *reversed(smaller)]  # largest first
            returned = [
                network(result)
                for network, result in zip(self.dual_networks.values(), results[:-1], strict=True)
            ]  # fmt: skip
        assert self.cri_pix is not None  # checked by init_training_settings
        sizes = [name.removeprefix('dual_') for name in self.dual_networks]
        losses = self.output_losses(self.output, self.gt)
        for prefix, criterion, images in (('l_pix', self.cri_pix, results[1:]), ('l_dual', self.cri_dual, returned)):
            for size, image, target in zip(sizes, images, self.targets, strict=True):
                losses[f'{prefix}_{size}'] = criterion(image.float(), target) * self.part_share(criterion)
        return losses

    def save(self, epoch: int, current_iter: int) -> None:
        # before the training state: a state on disk means that its networks are complete
        for name, network in self.dual_networks.items():
            self.save_network(network, f'net_{name}', current_iter)
        super().save(epoch, current_iter)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Resumes like RestorationModel, and reads the dual networks' weights from the run's folder of networks.

        Raises:
            RequestError: the weights are missing, or another model saved the state.
        """
        super().resume_training(resume_state)
        for name, network in self.dual_networks.items():
            path = os.path.join(self.opt['path']['models'], f'net_{name}_{resume_state["iter"]}.pth')
            self.load_network(network, path)

    @staticmethod
    def misfits(opt: Mapping[str, Any], network: Any) -> dict[str, str]:
        """Training options that do not fit this model: for each dotted key, what was found and what was expected.

        ``network`` is the class of ``network_g``, or None if it is not known. The check of option files calls this too.
        """
        found: dict[str, str] = {}
        scale, train_opt = opt.get('scale'), opt.get('train') or {}
        if not (isinstance(scale, (int, float)) and scale > 1 and math.log2(scale).is_integer()):
            found['scale'] = (
                f'found {scale}; expected 2, 4 or a higher power of two: each dual network of DualRegressionModel '
                'halves the size'
            )
        lacking = []
        if network is not None:
            if 'return_all' not in inspect.signature(network.forward).parameters:
                lacking.append('its forward has no return_all')
            if 'num_feat' not in inspect.signature(network).parameters:
                lacking.append('its constructor has no num_feat')
        if network is not None and lacking:
            found['network_g.type'] = (
                f'DualRegressionModel cannot train {network.__name__}: {" and ".join(lacking)}; expected a network '
                'that returns the results of all scales, such as DRN; for this one use model_type: RestorationModel'
            )
        for key, example, use in (
            ('pixel_opt', '{type: L1Loss}', 'the loss of every scale'),
            ('dual_opt', '{type: L1Loss, loss_weight: 0.1}', 'the loss of the dual networks'),
            ('optim_dual', '{type: Adam, lr: 1e-4}', 'the optimizer of each dual network'),
        ):
            if not train_opt.get(key):
                found[f'train.{key}'] = f'missing; DualRegressionModel needs {use}, for example {example}'
        return found
