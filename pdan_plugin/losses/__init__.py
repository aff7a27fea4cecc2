"""Losses, each registered under its class name in the toolbox's loss registry."""

from pdan_plugin.losses.hpem_loss import HPEMLoss
from pdan_plugin.losses.log_mse_loss import LogMSELoss

__all__ = ['HPEMLoss', 'LogMSELoss']
