"""The sections of an option file: their keys and the kind of each value.

A section allows further keys here; check.py decides which of them are read. Whole numbers may be written 5e3. Text is
never read as a number. The docstring below a key is its description in the options reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from pdan_plugin.option_schema.constructors import is_number, is_whole


def _kind(
    expected: str, accepts: Callable[[Any], bool], convert: Callable[[Any], Any] | None = None
) -> BeforeValidator:
    """A validator for values read from YAML. It never converts text to a number."""

    def validate(value: Any) -> Any:
        if not accepts(value):
            raise PydanticCustomError('option', '{expected}', {'expected': expected})
        return convert(value) if convert else value

    return BeforeValidator(validate)


def _at_least(lowest: int) -> Callable[[Any], bool]:
    return lambda value: is_whole(value) and value >= lowest


_ANY_WHOLE: dict[str, Any] = {'type': 'integer'}  # in JSON Schema, as here, 5e3 is an integer
_NUMBER: dict[str, Any] = {'type': 'number'}

Whole = Annotated[
    int, _kind('a whole number, 0 or more', _at_least(0), int), WithJsonSchema(_ANY_WHOLE | {'minimum': 0})
]
Positive = Annotated[
    int, _kind('a whole number, 1 or more', _at_least(1), int), WithJsonSchema(_ANY_WHOLE | {'minimum': 1})
]
AnyWhole = Annotated[int, _kind('a whole number', is_whole, int), WithJsonSchema(_ANY_WHOLE)]
Number = Annotated[float, _kind('a number', is_number), WithJsonSchema(_NUMBER)]
Fraction = Annotated[
    float,
    _kind('a number from 0 to less than 1', lambda value: is_number(value) and 0 <= value < 1),
    WithJsonSchema(_NUMBER | {'minimum': 0, 'exclusiveMaximum': 1}),
]
Text = Annotated[str, _kind('text', lambda value: isinstance(value, str)), WithJsonSchema({'type': 'string'})]
Factor = Annotated[
    Any,
    _kind('a number above 0', lambda value: is_number(value) and value > 0),
    WithJsonSchema(_NUMBER | {'exclusiveMinimum': 0}),
]
Precision = Literal['fp32', 'bf16', 'fp16']
GpuCount = Annotated[
    Any,
    _kind("a whole number of GPUs (0: the CPU) or 'auto'", lambda value: value == 'auto' or _at_least(0)(value)),
    WithJsonSchema({'anyOf': [{'const': 'auto'}, _ANY_WHOLE | {'minimum': 0}]}),
]
TileSize = Annotated[
    Any,
    _kind("pixels of the input, 16 or more, or 'auto'", lambda value: value == 'auto' or _at_least(16)(value)),
    WithJsonSchema({'anyOf': [{'const': 'auto'}, _ANY_WHOLE | {'minimum': 16}]}),
]
Section = Annotated[
    dict[str, Any],
    _kind('a section of keys', lambda value: isinstance(value, Mapping), dict),
    WithJsonSchema({'type': 'object'}),
]
Names = Annotated[
    list[str],
    _kind(
        'a list of names',
        lambda value: isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value),
        list,
    ),
    WithJsonSchema({'type': 'array', 'items': {'type': 'string'}}),
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


def _range_schema(value: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({'anyOf': [value, {'type': 'array', 'items': value, 'minItems': 2, 'maxItems': 2}]})


Probability = Annotated[
    float,
    _kind('a number from 0 to 1', lambda value: is_number(value) and 0 <= value <= 1, float),
    WithJsonSchema(_NUMBER | {'minimum': 0, 'maximum': 1}),
]
QualityRange = Annotated[
    tuple[int, int],
    _kind('a JPEG quality from 1 to 100, or two such as [40, 95]', _range_within(1, 100, whole=True), _whole_ends),
    _range_schema(_ANY_WHOLE | {'minimum': 1, 'maximum': 100}),
]
NoiseRange = Annotated[
    tuple[float, float],
    _kind('grey levels from 0 to 255, or two such as [0, 10]', _range_within(0, 255, whole=False), _ends),
    _range_schema(_NUMBER | {'minimum': 0, 'maximum': 255}),
]
MotionRange = Annotated[
    tuple[float, float],
    _kind('LR pixels from 0 to 32, or two such as [0, 4]', _range_within(0, 32, whole=False), _ends),
    _range_schema(_NUMBER | {'minimum': 0, 'maximum': 32}),
]
Resampling = Literal['bicubic', 'area', 'bilinear']


class Options(BaseModel):
    model_config = ConfigDict(extra='allow', protected_namespaces=(), use_attribute_docstrings=True)


class Top(Options):
    """The top level of an option file."""

    name: Text
    """The run's name: its folder is `experiments/NAME` or `results/NAME`."""
    model_type: Text
    """A registered model."""
    num_gpu: GpuCount
    """GPUs to use; 0 is the CPU, `auto` is all visible GPUs."""
    datasets: Section
    """`train` and `val` for training, `test`, `test_2` and so on for a test; see `datasets`."""
    network_g: Section
    """The network: `type`, a registered arch, and the keywords of its constructor."""
    path: Section
    """Where weights and states are read from; see `path`."""
    scale: Factor | None = None
    """HR size divided by LR size."""
    manual_seed: Whole | None = None
    """The seed of all random draws. Without it, one is drawn and logged."""
    plugins: Names | None = None
    """The plugins to load. Without it, all installed plugins are loaded."""
    train: Section | None = None
    """See `train`."""
    val: Section | None = None
    """See `val`."""
    logger: Section | None = None
    """See `logger`."""
    dist_params: Section | None = None
    """See `dist_params`."""
    find_unused_parameters: StrictBool = False
    """For DistributedDataParallel: whether some parameters may get no gradient in an iteration."""


class TrainTop(Top):
    train: Section  # type: ignore[assignment]
    logger: Section  # type: ignore[assignment]


class TestTop(Top):
    val: Section  # type: ignore[assignment]


class Train(Options):
    """How a network is trained."""

    total_iter: Positive
    """Iterations of the run."""
    warmup_iter: AnyWhole = -1
    """Iterations in which the learning rate rises linearly from 0; -1 for none."""
    ema_decay: Fraction = 0.0
    """Decay of the moving average of the weights; 0 for no average."""
    precision: Precision = 'fp32'
    """Number format of the forward pass. Weights, losses and the optimizer stay in float32."""
    tf32: StrictBool = True
    """Whether float32 on CUDA may use TF32 in training. Validation never does."""
    channels_last: StrictBool = False
    """Channels-last memory layout: faster on tensor cores and on a CPU."""
    compile: StrictBool = False
    """Whether torch.compile is used for the training steps: on the blocks that repeat, or else on the whole network."""
    accumulation_steps: Positive = 1
    """An iteration computes this many batches of `batch_size_per_gpu` before its one optimizer step."""
    grad_clip_norm: Factor | None = None
    """A gradient with a larger norm is scaled down to this norm."""
    max_skipped_steps: Positive = 25
    """A step with a non-finite loss or gradient is skipped; this many skipped steps in a row end the run."""
    net_d_iters: Positive = 1
    """GAN models: the generator is trained in every iteration that is a multiple of it."""
    net_d_init_iters: Whole = 0
    """GAN models: iterations at the start in which only the discriminator is trained."""


class Val(Options):
    """Validation during training, and scoring in a test."""

    save_img: StrictBool
    """Whether the restored pictures are written."""
    val_freq: Positive | None = None
    """Iterations between two validations."""
    suffix: Text | None = None
    """A suffix of the restored pictures' names."""
    pbar: StrictBool = False
    """Whether a progress bar is shown."""
    metrics: Section | None = None
    """Metrics, each under a name of your choice: `type`, its keywords, and `better: higher` or `lower`."""
    precision: Precision = 'fp32'
    """Number format of the network. fp32 keeps scores comparable with papers."""
    self_ensemble: StrictBool = False
    """Whether the results of all eight flips and rotations are averaged: eight times the time."""
    tile: TileSize | None = None
    """Largest side of the tiles in pixels of the input; `auto` chooses it by the free memory. Default: no tiles."""
    tile_overlap: Whole | None = None
    """Pixels of the input that neighbouring tiles share. Without it, the network's need is measured."""
    local_pooling: Positive | None = None
    """Side in pixels of the input: windows of this size replace the network's poolings over the whole picture."""
    submission: StrictBool = False
    """Whether a zip file for the REDS challenge is written."""


class TrainVal(Val):
    val_freq: Positive  # type: ignore[assignment]


class Wandb(Options):
    """Weights & Biases."""

    project: Text | None = None
    """The project; without it, wandb is not used."""
    resume_id: Text | None = None
    """The run to continue."""


class Logger(Options):
    """Logs and checkpoints of a training run."""

    print_freq: Positive
    """Iterations between two lines of the log."""
    save_checkpoint_freq: Positive
    """Iterations between two checkpoints."""
    use_tb_logger: StrictBool
    """Whether events for tensorboard are written."""
    keep_checkpoints: Positive | None = None
    """Number of newest checkpoints to keep, besides the best of each metric. Without it, all are kept."""
    wandb: Section | None = None
    """See `logger.wandb`."""


class Distributed(Options):
    """Several processes."""

    backend: Literal['nccl', 'gloo', 'mpi'] | None = None
    """Without it: nccl on GPUs, gloo on a CPU."""
    port: Positive | None = None
    """The port of the process group."""
    timeout: Number | None = None
    """Seconds after which a rank stops waiting for another one."""


class Paths(Options):
    """The weights and states from which a run starts."""

    resume_state: Text | None = None
    """The training state to continue from; `--auto_resume` finds the newest."""
    ignore_resume_networks: Any = None
    """Networks that are not loaded from the checkpoint of `resume_state`, such as `[network_d]`."""


class NetworkPaths(Options):
    """For each network `network_X`, with the suffix `_X`: `pretrain_network_g` and so on."""

    pretrain_network: Text | None = None
    """The weights to start from, or to test: a file, or the name of weights in the package (`pdan_small`)."""
    param_key: Text | None = None
    """The key in the file: `params`, `params_ema` for the moving average, `~` for a file without keys."""
    strict_load: StrictBool = True
    """Whether the weights must fit the network exactly."""


class DataSet(Options):
    """A data set."""

    name: Text
    """Its name in logs and results."""
    type: Text
    """A registered data set."""
    io_backend: Section | None = None
    """How files are read: `type: disk` or `type: lmdb`."""
    gt_size: Positive | None = None
    """Side of the HR crop in training, in pixels."""
    use_hflip: StrictBool | None = None
    """Whether crops are mirrored with probability 0.5."""
    use_rot: StrictBool | None = None
    """Whether crops are flipped vertically and transposed, each with probability 0.5."""
    use_brightness: StrictBool | None = None
    """Whether REDSPairedDataset changes the brightness of some crops."""
    pin_memory: StrictBool = False
    """Whether batches are stored in pinned memory, for faster copies to a GPU."""
    persistent_workers: StrictBool = False
    """Whether the workers are kept between epochs."""
    prefetch_mode: Literal['cpu', 'cuda'] | None = None
    """`cpu` or `cuda`: batches are prefetched."""
    num_prefetch_queue: Positive = 1
    """Number of batches that `prefetch_mode: cpu` prefetches."""
    dataroot_gt: Any = None
    """The ground truth: a folder or a store (`.lmdb`)."""
    dataroot_lq: Any = None
    """The input pictures: a folder or a store."""
    dataset_enlarge_ratio: Factor = 1
    """Number of times that an epoch reads the data set."""
    num_worker_per_gpu: Whole | None = None
    """Worker processes per rank; 0 reads in the training process."""
    batch_size_per_gpu: Positive | None = None
    """Samples in a batch, per rank."""
    degradation: Section | None = None
    """See `datasets: degradation`."""
    use_shuffle: StrictBool | None = None
    """No effect: training always shuffles. It is accepted because many option files have it."""


class TrainDataSet(DataSet):
    num_worker_per_gpu: Whole  # type: ignore[assignment]
    batch_size_per_gpu: Positive  # type: ignore[assignment]


# One of these must be there.
DEGRADATIONS = ('motion_blur', 'resize', 'noise_sigma', 'jpeg_quality')
# The key -> the key without which it does nothing.
DEGRADATION_NEEDS = {
    'motion_prob': 'motion_blur',
    'resize_prob': 'resize',
    'noise_prob': 'noise_sigma',
    'poisson': 'noise_sigma',
    'jpeg_prob': 'jpeg_quality',
}


class Degradation(Options):
    """Degradations of the LR pictures, applied while they are read; see data/degradation.py."""

    model_config = ConfigDict(extra='ignore', frozen=True)

    motion_blur: MotionRange | None = None
    """Length of a motion blur, in LR pixels; two numbers are a range. Its direction is drawn, and how much it bends."""
    motion_prob: Probability = 1.0
    """Probability that motion blur is added."""
    resize: Annotated[list[Resampling], Field(min_length=1)] | None = None
    """Resampling methods that compute the LR picture; one is drawn for each sample."""
    resize_prob: Probability = 1.0
    """Probability that `resize` is applied."""
    noise_sigma: NoiseRange | None = None
    """Standard deviation of the noise, in grey levels of 255; two numbers are a range."""
    noise_prob: Probability = 1.0
    """Probability that noise is added."""
    poisson: StrictBool = False
    """Whether half of the noise depends on the signal, like a sensor's."""
    jpeg_quality: QualityRange | None = None
    """Quality of the JPEG compression; two numbers are a range."""
    jpeg_prob: Probability = 1.0
    """Probability that the picture is compressed."""

    @model_validator(mode='after')
    def _something_is_degraded(self) -> Degradation:
        if all(getattr(self, key) is None for key in DEGRADATIONS):
            raise PydanticCustomError(
                'together',
                'degrades nothing; give one or more of {keys}, or remove the section',
                {'keys': ', '.join(DEGRADATIONS)},
            )
        for given, needed in DEGRADATION_NEEDS.items():
            if given in self.model_fields_set and getattr(self, given) and getattr(self, needed) is None:
                raise PydanticCustomError(
                    'together', '{given} without {needed}; give both or none', {'given': given, 'needed': needed}
                )
        return self
