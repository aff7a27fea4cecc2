# The toolbox has no types. This stub lists what pyright needs of this module; other modules are read from their source.
from collections.abc import Iterator
from typing import Any

from torch.utils.data.sampler import Sampler

class EnlargedSampler(Sampler[int]):
    dataset: Any
    num_replicas: int
    rank: int
    epoch: int
    num_samples: int
    total_size: int
    def __init__(self, dataset: Any, num_replicas: int, rank: int, ratio: float = 1) -> None: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...
    def set_epoch(self, epoch: int) -> None: ...
