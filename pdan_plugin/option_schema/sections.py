"""The sections of an option file: their keys, and what kind of value each takes.

A section allows further keys here; which of them something reads is decided in option_schema.py. Whole numbers may be
written 5e3, and no text is ever taken for a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from pdan_plugin.option_schema.constructors import is_number, is_whole


def _kind(
    expected: str, accepts: Callable[[Any], bool], convert: Callable[[Any], Any] | None = None
) -> BeforeValidator:
    """A validator that takes values as YAML reads them and never makes a number of a text."""

    def validate(value: Any) -> Any:
        if not accepts(value):
            raise PydanticCustomError('option', '{expected}', {'expected': expected})
        return convert(value) if convert else value

    return BeforeValidator(validate)


def _at_least(lowest: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and value >= lowest


Whole = Annotated[int, _kind('a whole number, 0 or more', _at_least(0), int)]
Positive = Annotated[int, _kind('a whole number, 1 or more', _at_least(1), int)]
StrictPositive = Annotated[  # where its reader takes no 5e0
    int, _kind('a whole number, 1 or more', lambda value: isinstance(value, int) and _at_least(1)(value))
]
AnyWhole = Annotated[int, _kind('a whole number', is_whole, int)]
Number = Annotated[float, _kind('a number', is_number)]
Fraction = Annotated[float, _kind('a number from 0 to less than 1', lambda value: is_number(value) and 0 <= value < 1)]
Text = Annotated[str, _kind('text', lambda value: isinstance(value, str))]
Factor = Annotated[Any, _kind('a number above 0', lambda value: is_number(value) and value > 0)]
Precision = Literal['fp32', 'bf16', 'fp16']
GpuCount = Annotated[
    Any, _kind("a whole number of GPUs (0: the CPU) or 'auto'", lambda value: value == 'auto' or _at_least(0)(value))
]
TileSize = Annotated[
    Any, _kind("pixels of the input, 16 or more, or 'auto'", lambda value: value == 'auto' or _at_least(16)(value))
]
Section = Annotated[dict[str, Any], _kind('a section of keys', lambda value: isinstance(value, Mapping), dict)]
Names = Annotated[
    list[str],
    _kind(
        'a list of names',
        lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value),
        list,
    ),
]


def _range_within(least: int, most: int, whole: bool) -> Callable[[Any], bool]:
    def accepts(value: Any) -> bool:
        ends = value if isinstance(value, (list, tuple)) else [value, value]
        kind = is_whole if whole else is_number
        return len(ends) == 2 and all(map(kind, ends)) and least <= ends[0] <= ends[1] <= most

    return accepts


def _whole_ends(value: Any) -> tuple[int, int]:
    first, last = value if isinstance(value, (list, tuple)) else (value, value)
    return int(first), int(last)


def _ends(value: Any) -> tuple[float, float]:
    first, last = value if isinstance(value, (list, tuple)) else (value, value)
    return float(first), float(last)


Probability = Annotated[float, _kind('a number from 0 to 1', lambda value: is_number(value) and 0 <= value <= 1, float)]
QualityRange = Annotated[
    tuple[int, int],
    _kind('a JPEG quality from 1 to 100, or two such as [40, 95]', _range_within(1, 100, whole=True), _whole_ends),
]
NoiseRange = Annotated[
    tuple[float, float],
    _kind('grey levels from 0 to 255, or two such as [0, 10]', _range_within(0, 255, whole=False), _ends),
]
Resampling = Literal['bicubic', 'area', 'bilinear']


class Options(BaseModel):
    model_config = ConfigDict(extra='allow', protected_namespaces=())


class Top(Options):
    name: Text
    model_type: Text
    num_gpu: GpuCount
    datasets: Section
    network_g: Section
    path: Section
    scale: Factor | None = None
    manual_seed: Whole | None = None
    plugins: Names | None = None
    train: Section | None = None
    val: Section | None = None
    logger: Section | None = None
    dist_params: Section | None = None
    find_unused_parameters: StrictBool = False


class TrainTop(Top):
    train: Section  # type: ignore[assignment]
    logger: Section  # type: ignore[assignment]


class TestTop(Top):
    val: Section  # type: ignore[assignment]


class Train(Options):
    total_iter: Positive
    warmup_iter: AnyWhole = -1
    ema_decay: Fraction = 0.0
    precision: Precision = 'fp32'
    tf32: StrictBool = True
    channels_last: StrictBool = False
    compile: StrictBool = False
    accumulation_steps: Positive = 1
    grad_clip_norm: Factor | None = None
    max_skipped_steps: Positive = 25
    net_d_iters: Positive = 1
    net_d_init_iters: Whole = 0


class Val(Options):
    save_img: StrictBool
    val_freq: Positive | None = None
    suffix: Text | None = None
    pbar: StrictBool = False
    metrics: Section | None = None
    precision: Precision = 'fp32'
    self_ensemble: StrictBool = False
    tile: TileSize | None = None
    tile_overlap: Whole | None = None
    submission: StrictBool = False


class TrainVal(Val):
    val_freq: Positive  # type: ignore[assignment]


class Wandb(Options):
    project: Text | None = None
    resume_id: Text | None = None


class Logger(Options):
    print_freq: Positive
    save_checkpoint_freq: Positive
    use_tb_logger: StrictBool
    keep_checkpoints: StrictPositive | None = None
    wandb: Section | None = None


class Distributed(Options):
    backend: Literal['nccl', 'gloo', 'mpi'] | None = None
    port: Positive | None = None
    timeout: Number | None = None


class Paths(Options):
    resume_state: Text | None = None
    ignore_resume_networks: Any = None


class NetworkPaths(Options):
    pretrain_network: Text | None = None
    param_key: Text | None = None
    strict_load: StrictBool = True


class DataSet(Options):
    name: Text
    type: Text
    io_backend: Section | None = None
    gt_size: Positive | None = None
    use_hflip: StrictBool | None = None
    use_rot: StrictBool | None = None
    pin_memory: StrictBool = False
    persistent_workers: StrictBool = False
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    num_prefetch_queue: Positive = 1
    dataroot_gt: Any = None
    dataroot_lq: Any = None
    dataset_enlarge_ratio: Factor = 1
    num_worker_per_gpu: Whole | None = None
    batch_size_per_gpu: Positive | None = None
    degradation: Section | None = None
    use_shuffle: StrictBool | None = None  # in many option files; the sampler always shuffles


class TrainDataSet(DataSet):
    num_worker_per_gpu: Whole  # type: ignore[assignment]
    batch_size_per_gpu: Positive  # type: ignore[assignment]


class Degradation(Options):
    """What a data set adds to its LR pictures while it reads them; see data/degradation.py."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    resize: Annotated[list[Resampling], Field(min_length=1)] | None = None
    resize_prob: Probability = 1.0
    noise_sigma: NoiseRange | None = None
    noise_prob: Probability = 1.0
    poisson: StrictBool = False
    jpeg_quality: QualityRange | None = None
    jpeg_prob: Probability = 1.0

    @model_validator(mode='after')
    def _something_is_degraded(self) -> Degradation:
        if self.resize is None and self.noise_sigma is None and self.jpeg_quality is None:
            raise PydanticCustomError(
                'together', 'degrades nothing; give noise_sigma, jpeg_quality or resize, or take the section out'
            )
        for given, needed in (
            ('resize_prob', 'resize'),
            ('noise_prob', 'noise_sigma'),
            ('poisson', 'noise_sigma'),
            ('jpeg_prob', 'jpeg_quality'),
        ):
            if given in self.model_fields_set and getattr(self, given) and getattr(self, needed) is None:
                raise PydanticCustomError(
                    'together', '{given} without {needed}; give both or none', {'given': given, 'needed': needed}
                )
        return self
