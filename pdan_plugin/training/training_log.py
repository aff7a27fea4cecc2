"""Output of a run while it trains: log lines, tensorboard, history and progress bar."""

from __future__ import annotations

from typing import Any

from basicsr.utils import logger as toolbox_logger
from basicsr.utils.dist_util import get_dist_info, master_only

from pdan_plugin.machine.memory import peak_memory
from pdan_plugin.training import history, progress


def samples_per_iteration(opt: dict[str, Any]) -> int:
    """Number of training samples in one optimizer step, all ranks together."""
    in_process = 1 if opt['dist'] else max(opt['num_gpu'], 1)
    per_rank = opt['datasets']['train']['batch_size_per_gpu'] * in_process
    return per_rank * opt['world_size'] * (opt['train'].get('accumulation_steps') or 1)


class TrainingLog:
    """Replaces the toolbox's `MessageLogger`, with the same signature and form of lines.

    Between `time (data)` and the losses, a line has another bracket: samples per second over all ranks, the share of
    time spent waiting for batches, and the peak memory of rank 0. These are means over the iterations since the line
    before, without validations and saving. The remaining time is estimated from the iterations of this process. Losses
    and learning rates are also written to the run's history.

    Args:
        opt: The options of the run.
        start_iter: Iterations done before this process.
        tb_logger: A tensorboard writer, used if `logger: use_tb_logger` is set.
    """

    def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
        self.opt = opt
        self.tb_logger = tb_logger
        self.writes_tensorboard = opt['logger'].get('use_tb_logger') and 'debug' not in opt['name']
        self.logger = toolbox_logger.get_root_logger()
        self.progress = progress.RunProgress(
            opt['name'], start_iter, int(opt['train']['total_iter']), samples_per_iteration(opt)
        )
        self.is_followed = progress.begin(self.progress)
        if self.is_followed:
            history.run_history(opt)  # a record that cannot be continued is reported before the first iteration
            if get_dist_info()[0] == 0 and progress.can_show_a_bar():
                self.progress.show_bar(self.logger)

    def reset_start_time(self) -> None:
        """Does nothing. The trainer calls it after the first iteration; the remaining time already leaves that out."""

    @master_only
    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Writes the log line and the records of a finished iteration.

        Args:
            log_vars: `epoch`, `iter`, `lrs`; `time` and `data_time` in seconds, used only if the trainer's steps are
                not followed; all other values are logged by name.
        """
        values = dict(log_vars)
        epoch, iteration, learning_rates = values.pop('epoch'), values.pop('iter'), values.pop('lrs')
        seconds, waiting = values.pop('time', None), values.pop('data_time', 0.0)
        values = {name: float(value) for name, value in values.items()}
        self.progress.done(iteration)
        if self.is_followed:
            pace = self.progress.pace_of_line()
        else:
            pace = None if seconds is None else progress.Pace(seconds, waiting)
        rates = ''.join(f'{rate:.3e},' for rate in learning_rates)
        message = f'[{self.opt["name"][:5]}..][epoch:{epoch:3d}, iter:{iteration:8,d}, lr:({rates})] '
        scalars = {f'losses/{name}' if name.startswith('l_') else name: value for name, value in values.items()}
        several = len(learning_rates) > 1
        scalars |= {f'lr/{group}' if several else 'lr': rate for group, rate in enumerate(learning_rates)}
        if pace is not None:
            message += f'[eta: {progress.readable_time(self.progress.seconds_left())}, '
            message += f'time (data): {pace.iteration_seconds:.3f} ({pace.waiting_seconds:.3f})] '
            speed = self.progress.samples_per_second(pace)
            message += f'[{progress.readable_rate(speed)} samples/s, data wait: {pace.waiting_share:.0%}'
            scalars |= {'speed/samples_per_second': speed, 'speed/data_wait_share': pace.waiting_share}
            peak = peak_memory()
            if peak is not None:
                message += f', peak memory: {peak}'
                scalars['memory/peak_gib'] = peak.size / 2**30
            message += '] '
        message += ''.join(f'{name}: {value:.4e} ' for name, value in values.items())
        if self.writes_tensorboard:
            for tag, value in scalars.items():
                self.tb_logger.add_scalar(tag, value, iteration)
        self.progress.show_losses({name: value for name, value in values.items() if name.startswith('l_')})
        self.logger.info(message)
        history.run_history(self.opt).add_training(iteration, epoch, learning_rates, values)
