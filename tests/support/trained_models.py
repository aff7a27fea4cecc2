"""Models of the toolbox that take some steps."""

import numpy as np
import torch
from basicsr.models import build_model
from torch.utils.data import Dataset


def take(model, batch, iterations):
    for iteration in iterations:
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    return model


def weights(model):
    return {name: value.clone() for name, value in model.net_g.state_dict().items()}


def seeded(opt):
    torch.manual_seed(0)
    return build_model(opt)


class Noise(Dataset):
    """Two pictures, drawn anew at each look."""

    opt = {'name': 'held-out', 'dataroot_lq': None}  # noqa: RUF012 (the toolbox's own form)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        gain = np.random.rand()  # noqa: NPY002 (the generator whose state a run keeps)
        return {'lq': torch.rand(3, 8, 8), 'gt': gain * torch.rand(3, 32, 32), 'lq_path': f'{index}'}
