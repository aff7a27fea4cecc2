"""Data for training and testing: REDS as published, prepared stores, and the data set that reads either."""

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import FrameStoreWriter
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset

__all__ = ['FrameStore', 'FrameStoreWriter', 'REDSPairedDataset']
