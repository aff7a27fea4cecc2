"""Training with two supervised outputs: the HR image, and the sharp LR image of PDAN's deblurring branch."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any

from basicsr.losses import build_loss
from basicsr.utils import get_root_logger
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from torch import Tensor

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.precision import autocast
from pdan_plugin.models.restoration_model import RestorationModel


@MODEL_REGISTRY.register()
class DualSupervisionModel(RestorationModel):
    """RestorationModel that also supervises the deblurring branch if the network has one.

    ``train.deblur_opt`` is a loss like ``pixel_opt``. It compares the branch's output with ``lq_sharp`` (b, c, h, w)
    and is logged as ``l_deblur``. A network has a branch if its ``deblur_branch`` attribute is not None; its
    ``forward(x, return_lr=True)`` then returns (HR, sharp LR). A network without a branch is supervised at HR alone.

    Validation and test never compute the branch. A test builds the network without it.

    Raises:
        RequestError: a branch without ``deblur_opt``, or a batch without ``lq_sharp``.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        network_opt = opt['network_g']
        if (
            not opt['is_train']
            and 'deblur_branch' in inspect.signature(ARCH_REGISTRY.get(network_opt['type'])).parameters
        ):
            network_opt['deblur_branch'] = False
        super().__init__(opt)

    def init_training_settings(self) -> None:
        deblur_opt = self.opt['train'].get('deblur_opt')
        network = self.get_bare_model(self.net_g)
        has_branch = getattr(network, 'deblur_branch', None) is not None
        if has_branch and not deblur_opt:
            raise RequestError(
                f'train.deblur_opt is missing: {type(network).__name__} has a deblurring branch, and no loss '
                'would train it. Give one, for example {type: L1Loss, loss_weight: 0.5}, or set network_g: '
                'deblur_branch: false.'
            )
        if deblur_opt and not has_branch:
            get_root_logger().info(
                f'{type(network).__name__} has no deblurring branch: it is supervised at HR alone, and '
                'train.deblur_opt is not used.'
            )
        self.cri_deblur = build_loss(deblur_opt).to(self.device) if has_branch else None
        super().init_training_settings()

    def compute_losses(self) -> OrderedDict[str, Tensor]:
        if self.cri_deblur is None:
            return super().compute_losses()
        with autocast(self.device, self.precision):
            self.output, self.lq_sharp_output = self.net_g(self.lq, return_lr=True)
        losses = self.output_losses(self.output, self.gt)
        losses['l_deblur'] = self.cri_deblur(self.lq_sharp_output.float(), self.lq_sharp) * self.part_share(
            self.cri_deblur
        )
        return losses

    def load_part(self, data: dict[str, Any]) -> None:
        super().load_part(data)
        if not self.is_train or self.cri_deblur is None:
            return
        if 'lq_sharp' not in data:
            dataset_type = self.opt['datasets']['train']['type']
            raise RequestError(
                f'datasets.train: {dataset_type} gives no lq_sharp, the target of the deblurring branch. Use type: '
                'REDSPairedDataset, or set network_g: deblur_branch: false.'
            )
        self.lq_sharp = self.to_device(data['lq_sharp'])
