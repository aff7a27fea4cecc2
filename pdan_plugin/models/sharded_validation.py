"""Validation and test shared between the ranks. The scores do not depend on the number of ranks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.machine.accelerators import synchronize
from pdan_plugin.machine.accepted_sizes import smallest_tried
from pdan_plugin.machine.algorithm_search import searching_algorithms
from pdan_plugin.machine.cores import cores_of_this_rank
from pdan_plugin.machine.overlap import ReadAhead
from pdan_plugin.machine.precision import autocast, require_precision, slowness
from pdan_plugin.machine.tf32 import full_float32
from pdan_plugin.metrics.preparation import prepare_metrics
from pdan_plugin.models.background_scoring import BackgroundScoring
from pdan_plugin.models.distinct_results import require_distinct_results, require_distinct_tables
from pdan_plugin.models.result_names import clip_and_frame, result_name
from pdan_plugin.models.scores_record import (
    ScoredImage,
    ScoresRecord,
    machine_in_words,
    mean_of,
    reserved_metric_name,
)
from pdan_plugin.models.submission import require_challenge_frames, write_submission
from pdan_plugin.restoration.receptive_field import network_shape
from pdan_plugin.restoration.restorer import Restorer
from pdan_plugin.training.history import run_history
from pdan_plugin.training.interruption import stop_requested
from pdan_plugin.training.random_state import random_state_kept

_READ_AHEAD = 2  # pictures


class ShardedValidationModel(SRModel):
    """SRModel with validation shared between the ranks and its own validation precision.

    The names of results contain clip and frame. A test writes every image's scores and the network's time
    (`pdan_plugin.models.scores_record`).

    Options, under ``val``:

    - ``precision``: 'fp32' (without TF32, so that scores compare with published ones), 'bf16' or 'fp16'.
    - ``self_ensemble``: the mean over the eight flips and rotations of a picture.
    - ``tile``: tile size in pixels of the input, or 'auto'. ``tile_overlap``: pixels of the input that neighbouring
      tiles share; by default the network's receptive field around a pixel.
    - ``local_pooling``: side, in pixels of the input, of the windows that replace the network's poolings over the whole
      picture (`pdan_plugin.restoration.local_pooling`).
    - ``submission``: a test writes the zip file for a challenge on REDS (`pdan_plugin.models.submission`).

    Raises:
        RequestError: A metric cannot be computed with its options, or two data sets of a test would write the same
            file.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        val_opt = opt.get('val') or {}
        metrics_opt = val_opt.get('metrics') or {}
        prepare_metrics(metrics_opt)
        reserved = None if opt['is_train'] else reserved_metric_name(metrics_opt)
        if reserved is not None:
            raise RequestError(
                f'val.metrics.{reserved}: a column of the score tables has this name; give the metric another name'
            )
        if not opt['is_train']:
            require_distinct_tables(opt.get('datasets') or {})
        self.validation_precision = val_opt.get('precision', 'fp32')
        self._local_pooling: int | None = val_opt.get('local_pooling')
        by_tiles = val_opt.get('tile') is not None or self._local_pooling is not None
        self._restores_in_parts = bool(val_opt.get('self_ensemble')) or by_tiles
        self._multiple: int | None = None  # sides of pictures that the network accepts are multiples of this
        self._takes_pictures = True  # one by one
        self._restorer: Restorer | None = None
        self._validated_at: dict[str, int | str] = {}
        self._record: ScoresRecord | None = None
        self._warm_for: set[tuple[int, ...]] = set()
        self._sizes: set[tuple[int, ...]] = set()  # so far; as long as it is one, cuDNN searches
        self.is_validating = False
        super().__init__(opt)
        require_precision(self.device, self.validation_precision)
        slow = slowness(self.device, self.validation_precision)
        if slow is not None:
            get_root_logger().warning(f'val: {slow}.')

    def to_device(self, images: Tensor) -> Tensor:
        """Copies a batch of pictures to the network's device."""
        return images.to(self.device, non_blocking=True)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Loads a picture to validate or test. Its ground truth stays on the CPU."""
        self.lq = self.to_device(data['lq'])

    def test(self) -> None:
        """Sets ``output`` (b, c, h, w), float32, from ``lq``. Uses the averaged network if there is one."""
        with torch.compiler.set_stance('force_eager'):  # otherwise each picture size would be compiled again
            if not self._needs_restorer():
                try:
                    self.output = self._restored_whole(self.lq)
                    return
                except Exception:  # a network of another project may raise any
                    if not self._takes_pictures or min(self.lq.shape[-2:]) >= smallest_tried(1):
                        raise  # else it may be smaller than the network accepts
            restorer = self._restorer or self._new_restorer()
            if self.is_validating:
                self._restorer = restorer
            self.output = restorer(self.lq)

    def _restored_whole(self, batch: Tensor) -> Tensor:
        # Not through DistributedDataParallel: its buffer broadcast waits for all ranks, and ranks may have
        # different numbers of images.
        network = self._validated_network()
        was_training = network.training
        network.eval()
        try:
            # not inference_mode: a network may cache a tensor here and use it in training
            with torch.no_grad(), full_float32(), autocast(self.device, self.validation_precision):
                return network(batch).float()
        finally:
            network.train(was_training)

    def _needs_restorer(self) -> bool:
        """Whether pictures are restored in parts, or extended to sizes that the network accepts, such as windows."""
        if not self._restores_in_parts and self._multiple is None:
            network = self._validated_network()
            was_training = network.training
            network.eval()
            try:
                with torch.no_grad():
                    self._multiple = network_shape(lambda batch: network(batch.to(self.device)), network).multiple
            except RequestError:  # it takes no picture alone, for example a clip
                self._multiple, self._takes_pictures = 1, False
            network.train(was_training)
        return self._restores_in_parts or self._multiple != 1

    def _new_restorer(self) -> Restorer:
        """A restorer with a copy of the current weights."""
        val_opt = self.opt['val']
        return Restorer(
            self._validated_network(),
            self.device,
            precision=self.validation_precision,
            tile=val_opt.get('tile'),
            overlap=val_opt.get('tile_overlap'),
            self_ensemble=bool(val_opt.get('self_ensemble')),
            local_pooling=self._local_pooling,
        )

    def _validated_network(self) -> nn.Module:
        return self.net_g_ema if hasattr(self, 'net_g_ema') else self.get_bare_model(self.net_g)

    def dist_validation(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(
        self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool
    ) -> None:
        self._validate(dataloader, current_iter, tb_logger, save_img)

    def _validate(self, dataloader: DataLoader, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Scores the data set. Each rank scores the images rank, rank + world size, ...

        All scores are gathered and averaged in the data set's order, so the means do not depend on the number of ranks.
        Every rank ends with the same ``metric_results``. The random generators are restored afterwards, so training
        draws the same numbers with and without validation. If a training run is asked to stop, validation ends early
        without a result.
        """
        dataset: Any = dataloader.dataset
        dataset_opt: dict[str, Any] = dataset.opt
        dataset_name = dataset_opt['name']
        if self.is_train and self._validated_at.get(dataset_name) == current_iter:
            return  # the trainer validates once more after the last iteration, with the same weights
        is_submission = not self.is_train and bool(self.opt['val'].get('submission'))
        if is_submission:
            require_challenge_frames(dataset, save_img=save_img)
        if not self.is_train:
            require_distinct_results(dataset)
        roots = [source.get('dataroot_lq') for source in dataset_opt.get('sources') or [dataset_opt]]
        metrics_opt = self.opt['val'].get('metrics') or {}
        rank, world_size = get_dist_info()
        total = len(dataset)
        shard = range(rank, total, world_size)
        # own generator: a loader draws a seed when it starts, which must not come from the training's generator
        dataloader = DataLoader(
            Subset(dataset, shard),
            batch_size=1,
            num_workers=dataloader.num_workers,
            pin_memory=dataloader.pin_memory,
            worker_init_fn=dataloader.worker_init_fn,
            generator=torch.Generator(),
        )

        if self.is_train and world_size > 1:
            _take_buffers_of_rank_zero(self._validated_network())
        self._sizes.clear()
        images: dict[int, ScoredImage] = {}
        show_bar = bool(self.opt['val'].get('pbar')) and rank == 0
        with (
            random_state_kept(self.device),
            self._restoring_as_now(),
            BackgroundScoring(
                scoring_threads(self.device), metrics_opt, in_turns=not self.is_train, passes_over=self.is_train
            ) as scoring,
            ReadAhead(dataloader, _READ_AHEAD) as samples,
            tqdm(total=len(shard), unit='image', desc=dataset_name, disable=not show_bar) as bar,
        ):
            for index, data in zip(shard, samples, strict=True):
                if self.is_train and stop_requested():
                    break
                lq_path = data['lq_path'][0]
                name = result_name(lq_path, roots)
                # a test measures the network alone
                with nullcontext() if self.is_train else samples.paused():
                    output, seconds = self._restored(data)
                path = self._picture_path(dataset_name, name, current_iter) if save_img else None
                scoring.add(index, name, output, data.get('gt'), path)
                del output
                images[index] = ScoredImage(name, *clip_and_frame(lq_path, roots), {}, seconds)
                bar.update()
            scores = scoring.scores()
        images = {index: replace(image, scores=scores[index]) for index, image in images.items()}
        images = _gather(images, world_size)
        if len(images) < total:
            return
        in_order = [images[index] for index in range(total)]
        self._validated_at[dataset_name] = current_iter
        results = {metric: mean_of([image.scores[metric] for image in in_order]) for metric in metrics_opt}
        if metrics_opt:
            self.metric_results = results
        if self.is_train:  # a test has one result, so no best one
            if metrics_opt:
                self.note_results(dataset_name, results, int(current_iter))
            run_history(self.opt).add_validation(int(current_iter), dataset_name, results)
        if rank != 0:
            return
        if metrics_opt:
            self._log_validation_metric_values(current_iter, dataset_name, tb_logger)
        if not self.is_train:
            self._leave_record(dataset_opt, in_order, pictures=save_img, submission=is_submission)

    def _leave_record(
        self, dataset_opt: dict[str, Any], images: list[ScoredImage], *, pictures: bool, submission: bool
    ) -> None:
        folder = Path(self.opt['path']['visualization']).parent
        if self._record is None:
            parameters = sum(parameter.numel() for parameter in self._validated_network().parameters())
            machine = machine_in_words(self.device)
            self._record = ScoresRecord(folder, self.opt, parameters=parameters, machine=machine)
        self._record.add(dataset_opt, images, pictures=pictures)
        if submission:
            paths = [Path(self._picture_path(dataset_opt['name'], image.name, self.opt['name'])) for image in images]
            path = folder / f'{dataset_opt["name"]}_submission.zip'
            write_submission(path, images, paths, on_gpu=self.device.type != 'cpu', description=self.opt['name'])
            get_root_logger().info(
                f'Submission: {path}. Its readme.txt states that the network was trained on the data of the challenge '
                'alone; correct it if you used other data.'
            )

    @contextmanager
    def _restoring_as_now(self) -> Iterator[None]:
        """Inside the block, `test` uses one restorer with the current weights."""
        if self._needs_restorer():
            self._restorer = self._new_restorer()
        try:
            yield
            for note in [] if self._restorer is None else self._restorer.notes:
                get_root_logger().info(note)
        finally:
            self._restorer = None

    def _restored(self, data: dict[str, Any]) -> tuple[Tensor, float | None]:
        """The network's output for a picture and, in a test, its seconds.

        Time is measured as in the challenges on REDS: from the picture in device memory to the result in device memory.
        The first picture (on a GPU, the first of each size) is restored once before as warm-up.
        """
        self._sizes.add(tuple(data['lq'].shape))
        with searching_algorithms(len(self._sizes) == 1):
            return self._restored_and_timed(data)

    def _restored_and_timed(self, data: dict[str, Any]) -> tuple[Tensor, float | None]:
        self.is_validating = True
        self.feed_data(data)  # another plugin's model may load more than lq
        if self.is_train:
            self.test()
            seconds = None
        else:
            kind = tuple(data['lq'].shape) if self.device.type != 'cpu' else ()
            if kind not in self._warm_for:
                self._warm_for.add(kind)
                with random_state_kept(self.device):
                    self.test()
                self.feed_data(data)
            started = self._time_now()
            self.test()
            seconds = self._time_now() - started
        self.is_validating = False
        output = self.output
        del self.lq, self.output
        return output, seconds

    def _time_now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def _picture_path(self, dataset_name: str, name: str, current_iter: int | str) -> str:
        folder = os.path.join(self.opt['path']['visualization'], dataset_name)
        if self.opt['is_train']:
            return os.path.join(folder, name, f'{name}_{current_iter}.png')
        suffix = self.opt['val'].get('suffix')
        return os.path.join(folder, f'{name}_{suffix}.png' if suffix else f'{name}.png')

    def note_results(self, dataset_name: str, results: dict[str, float], iteration: int) -> None:
        """Updates the best results so far with those of a validation.

        A resumed run may have other metrics than the run that saved its state. A metric that is new, or whose
        ``better`` changed, starts without a best result. A metric that was removed is ignored.
        """
        metrics_opt = (self.opt.get('val') or {}).get('metrics') or {}
        if not hasattr(self, 'best_metric_results'):
            self.best_metric_results = {}
        for metric, value in results.items():
            if metric not in metrics_opt:
                continue
            better = metrics_opt[metric].get('better', 'higher')
            record = self.best_metric_results.setdefault(dataset_name, {})
            if metric not in record or record[metric]['better'] != better:
                worst = float('-inf') if better == 'higher' else float('inf')
                record[metric] = {'better': better, 'val': worst, 'iter': -1}
            self._update_best_metric_result(dataset_name, metric, value, iteration)


def scoring_threads(device: torch.device) -> int:
    """Number of images scored at once, in training while the next one is restored. 0 on a CPU, where scoring would slow
    the network down."""
    if device.type == 'cpu':
        return 0
    return max(1, min(8, cores_of_this_rank() - 1))


def _take_buffers_of_rank_zero(network: nn.Module) -> None:
    """Copies rank 0's running statistics to all ranks: they are the ones that a checkpoint saves."""
    for buffer in network.buffers():
        shared = buffer.contiguous()
        distributed.broadcast(shared, src=0)
        buffer.copy_(shared)


def _gather(images: dict[int, ScoredImage], world_size: int) -> dict[int, ScoredImage]:
    if world_size == 1:
        return images
    shards: list[Any] = [None] * world_size
    distributed.all_gather_object(shards, images)
    return {index: image for shard in shards for index, image in shard.items()}
