"""Losses, each registered under its class name in the toolbox's loss registry."""

from pdan_plugin.losses.hpem_loss import HPEMLoss

__all__ = ['HPEMLoss']
