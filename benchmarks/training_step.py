# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A training step through Lightning, against a bare PyTorch loop.

The step of ``geo_perception train`` holds everything: taking the batch from the cache, cropping,
logging, Lightning's hooks. The bare loop has the same network, loss and optimiser, and one batch
that lies in memory ready for the network. Both take turns within one training run.
"""

import logging
from pathlib import Path
import tempfile
import time

from harness import argument_parser, ratio, Results
import numpy as np

from geo_perception.preprocessing import Preprocessing

FRAMES = 128
STEPS = 5   # timed steps a round, after one that is not
# As in config/, but for the batch of PoseNet: 64 take too long on a small machine.
RECIPES = {
    'posenet': {'batch_size': 8, 'views': 1, 'clip': None, 'model': {
        'architecture': 'posenet', 'rotation': 'quaternion', 'loss': 'caffe',
        'optimizer': 'adagrad', 'schedule': 'constant', 'preprocessing': Preprocessing()}},
    'posenet_lite': {'batch_size': 64, 'views': 4, 'clip': 5.0, 'model': {}},
}


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=10)
    parser.add_argument('--architectures', nargs='+', default=list(RECIPES), choices=RECIPES,
                        help='networks to measure')
    arguments = parser.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, 'recording')
        _write_recording(recording)
        for architecture in arguments.architectures:
            recipe = RECIPES[architecture]
            times = _measure(recipe, recording, folder, arguments.rounds)
            where = f"{architecture}, batches of {recipe['batch_size']}"
            results.times(where, times)
            results.target(f'step of geo_perception train / bare PyTorch, {where}',
                           ratio(times['geo_perception train'], times['bare PyTorch']), 1.1)
    results.write()


def _write_recording(path):
    """Write a bag of noise along a straight path."""
    from geo_perception.datasets.bag_writer import BagWriter

    random = np.random.default_rng(0)
    T = np.eye(4)
    with BagWriter(path) as bag:
        for i in range(FRAMES):
            image = random.integers(0, 256, (240, 320, 3), np.uint8)
            T[0, 3] = 0.01 * i
            stamp = i * 100_000_000
            bag.image('/camera/image_raw', stamp, 'camera_optical_frame', image, 'rgb8')
            bag.pose('/ground_truth/pose', stamp, 'map', T)


def _measure(recipe, recording, folder, rounds):
    """Return seconds a step, shape (rounds, steps), of both loops."""
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from geo_perception.training.monitoring import DataWait
    from geo_perception.training.novel_views import NovelViews
    from geo_perception.training.relocalization import RelocalizationModule
    from geo_perception.training.relocalization_data import RelocalizationData

    class Turns(lightning.Callback):
        """Stops training after each round and lets the bare loop have its turn."""

        def __init__(self):
            self._bare = self._mark = None
            self.lightning, self.bare = [[]], []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            now = time.perf_counter()
            if self._mark is not None:
                self.lightning[-1].append(now - self._mark)
            if len(self.lightning[-1]) == STEPS + 1:
                if self._bare is None:
                    self._bare = _bare_step(recipe, module, trainer.datamodule)
                self.bare.append([_time(self._bare) for _ in range(STEPS + 1)])
                if len(self.bare) == rounds + 1:
                    trainer.should_stop = True
                self.lightning.append([])
            self._mark = time.perf_counter()

    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    turns = Turns()
    trainer = lightning.Trainer(
        accelerator='cpu', max_epochs=10000, gradient_clip_val=recipe['clip'], limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, log_every_n_steps=10,
        logger=TensorBoardLogger(folder), callbacks=[DataWait(), turns])
    trainer.fit(RelocalizationModule(**recipe['model']), datamodule=RelocalizationData(
        str(recording), str(recording), batch_size=recipe['batch_size'], views=recipe['views'],
        novel_views=NovelViews(count=0)))
    # Of the rounds the first warms up, and of a round the first step.
    return {'geo_perception train': np.array(turns.lightning[1:rounds + 1])[:, 1:],
            'bare PyTorch': np.array(turns.bare[1:])[:, 1:]}


def _bare_step(recipe, module, data):
    """Return a function that trains a twin of the module's network on one batch in memory."""
    import torch

    from geo_perception.geometry.se3 import canonical_quaternion, quaternion_from_matrix
    from geo_perception.networks.rotation import encode_rotation
    from geo_perception.training.relocalization import RelocalizationModule

    options = {**recipe['model'], 'schedule': 'constant'}
    twin = RelocalizationModule(**options)
    twin.load_state_dict(module.state_dict())
    optimizer = twin.configure_optimizers()
    batch = next(iter(data.train_dataloader()))
    inputs, poses = batch['input'], batch['pose']
    if inputs.dtype == torch.uint8:
        crops = [module.preprocessing.centre_crop(image) for image in inputs]
        inputs = module.preprocessing.normalise(torch.stack(crops))
    inputs = inputs.float().contiguous()
    quaternions = canonical_quaternion(quaternion_from_matrix(poses[:, :3, :3].numpy()))
    position = poses[:, :3, 3].float()
    rotation = encode_rotation(torch.from_numpy(quaternions),
                               options.get('rotation', 'matrix')).float()

    def step():
        loss = twin.loss(twin.network.heads(inputs), position, rotation)
        optimizer.zero_grad()
        loss.backward()
        if recipe['clip']:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe['clip'])
        optimizer.step()
    return step


def _time(function):
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == '__main__':
    main()
