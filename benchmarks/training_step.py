# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A training step through Lightning, against a PyTorch loop.

The step of ``geo_perception train`` holds everything: taking the batch from the cache, cropping,
logging, Lightning's hooks. The other loop has one batch that lies in memory ready for the network.
For relocalization it is bare: the same network, loss and optimiser. For depth and ego-motion it is
plain: the same graph as one writes it down first, see plain_view_synthesis.py; so it is for depth
from stereo pairs, see plain_monodepth.py. Both take turns within one training run.
"""

from functools import partial
import logging
from pathlib import Path
import sys
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
# As published: 416x128, batches of 4, three frames.
VIDEO_RECIPES = ('sfmlearner', 'geonet', 'geonet_vgg')   # of untrained_model.py
# As published but for the batch of 8, which takes too long on a small machine: 512x256.
STEREO_RECIPES = {'monodepth_vgg': 2, 'monodepth_resnet50': 2}


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=10)
    parser.add_argument('--architectures', nargs='+',
                        default=[*RECIPES, *VIDEO_RECIPES[:2], 'monodepth_vgg'],
                        choices=[*RECIPES, *VIDEO_RECIPES, *STEREO_RECIPES],
                        help='networks to measure')
    parser.add_argument('--precision', default='32-true', choices=['32-true', 'bf16-mixed'],
                        help='of our step for depth; the plain loop has 32 bits')
    arguments = parser.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, 'recording')
        _write_recording(recording)
        for architecture in arguments.architectures:
            if architecture in STEREO_RECIPES:
                _measure_stereo(architecture, folder, arguments, results)
                continue
            if architecture in VIDEO_RECIPES:
                _measure_video(architecture, recording, folder, arguments, results)
                continue
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
    from geo_perception.geometry.camera import Camera

    random = np.random.default_rng(0)
    camera = Camera(np.array([[200.0, 0, 160], [0, 200, 120], [0, 0, 1]]), 320, 240,
                    frame_id='camera_optical_frame')
    T = np.eye(4)
    with BagWriter(path) as bag:
        for i in range(FRAMES):
            image = random.integers(0, 256, (240, 320, 3), np.uint8)
            T[0, 3] = 0.01 * i
            stamp = i * 100_000_000
            bag.image('/camera/image_raw', stamp, 'camera_optical_frame', image, 'rgb8')
            bag.camera_info('/camera/camera_info', stamp, camera)
            bag.pose('/ground_truth/pose', stamp, 'map', T)


def _measure(recipe, recording, folder, rounds):
    """Return seconds a step, shape (rounds, steps), of both loops."""
    from geo_perception.training.novel_views import NovelViews
    from geo_perception.training.relocalization import RelocalizationModule
    from geo_perception.training.relocalization_data import RelocalizationData

    ours, bare, _ = _take_turns(
        RelocalizationModule(**recipe['model'], stretches=0),
        RelocalizationData(str(recording), str(recording), batch_size=recipe['batch_size'],
                           views=recipe['views'], novel_views=NovelViews(count=0)),
        partial(_bare_step, recipe), folder, rounds, gradient_clip_val=recipe['clip'])
    return {'geo_perception train': ours, 'bare PyTorch': bare}


def _measure_video(architecture, recording, folder, arguments, results):
    """Measure a step of depth and ego-motion, and how long it waits for data."""
    from plain_view_synthesis import PlainStep
    from untrained_model import VIDEO_NETWORKS

    from geo_perception.losses.view_synthesis import GEONET_RIGID, SFMLEARNER
    from geo_perception.training.view_synthesis import ViewSynthesisModule
    from geo_perception.training.view_synthesis_data import ViewSynthesisData

    depth, depth_arguments, egomotion_arguments = VIDEO_NETWORKS[architecture]
    module = ViewSynthesisModule(
        depth, depth_arguments, egomotion_arguments=egomotion_arguments, stretch=True,
        loss=SFMLEARNER if architecture == 'sfmlearner' else GEONET_RIGID)

    def plain(module, data):
        batch = next(iter(data.train_dataloader()))
        return PlainStep(module, *module.inputs(batch))

    ours, theirs, share = _take_turns(
        module, ViewSynthesisData(str(recording), str(recording)), plain, folder,
        arguments.rounds, precision=arguments.precision)
    where = f'{architecture}, 416x128, batches of 4, {arguments.precision}'
    results.times(where, {'geo_perception train': ours, 'plain PyTorch': theirs})
    results.target(f'step of geo_perception train / plain PyTorch, {where}',
                   ratio(ours, theirs), 0.7)
    results.target(f'share of the time waiting for data, {where}', share, 0.05)


def _write_pairs(path):
    """Write a bag of a smooth wall that both eyes see, 8 pixels apart."""
    from untrained_model import camera_video

    from geo_perception.datasets.bag_writer import BagWriter
    from geo_perception.geometry.camera import Camera

    camera = Camera(np.array([[400.0, 0, 256], [0, 400, 128], [0, 0, 1]]), 512, 256)
    images = camera_video()
    with BagWriter(path) as bag:
        for i in range(FRAMES // 4):
            wall = images[i % len(images)]
            for eye, first, baseline in (('left', 0, 0.0), ('right', 8, 0.1)):
                bag.image(f'/{eye}/image_rect', i * 10 ** 8, 'camera',
                          np.ascontiguousarray(wall[:256, first:first + 512]), 'rgb8')
                bag.camera_info(f'/{eye}/camera_info', i * 10 ** 8, camera, baseline)


def _measure_stereo(architecture, folder, arguments, results):
    """Measure a step of depth from stereo pairs, and how long it waits for data."""
    from plain_monodepth import PlainStep

    from geo_perception.losses.stereo import StereoOptions
    from geo_perception.training.stereo import StereoModule
    from geo_perception.training.stereo_data import StereoData

    pairs = Path(folder, 'pairs')
    if not pairs.exists():
        _write_pairs(pairs)
    module = StereoModule(architecture, loss=StereoOptions(border='published'))
    size = STEREO_RECIPES[architecture]

    def plain(module, data):
        batch = next(iter(data.train_dataloader()))
        left, right, _ = module.inputs(batch)
        step = PlainStep(module, left, right)
        difference = abs(step.loss() - module.loss(left, right, module.network(left))['total'])
        if not difference < 1e-4:
            sys.exit(f'the plain step computes something else: off by {difference:.2g}')
        return step

    ours, theirs, share = _take_turns(
        module, StereoData(str(pairs), str(pairs), batch_size=size), plain, folder,
        arguments.rounds, precision=arguments.precision)
    where = f'{architecture}, 512x256, batches of {size}, {arguments.precision}'
    results.times(where, {'geo_perception train': ours, 'plain PyTorch': theirs})
    results.target(f'step of geo_perception train / plain PyTorch, {where}',
                   ratio(ours, theirs), 0.7)
    results.target(f'share of the time waiting for data, {where}', share, 0.05)


def _take_turns(module, data, other, folder, rounds, **options):
    """Return seconds a step of both loops, shape (rounds, steps), and the share of waiting."""
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from geo_perception.training.monitoring import DataWait

    class Turns(lightning.Callback):
        """Stops training after each round and lets the other loop have its turn."""

        def __init__(self):
            self._other = self._mark = None
            self.lightning, self.other = [[]], []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            now = time.perf_counter()
            if self._mark is not None:
                self.lightning[-1].append(now - self._mark)
            if len(self.lightning[-1]) == STEPS + 1:
                if self._other is None:
                    self._other = other(module, trainer.datamodule)
                self.other.append([_time(self._other) for _ in range(STEPS + 1)])
                waiting.on_train_epoch_start(trainer, module)   # that was no waiting for data
                if len(self.other) == rounds + 1:
                    trainer.should_stop = True
                self.lightning.append([])
            self._mark = time.perf_counter()

    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    turns, waiting = Turns(), DataWait()
    trainer = lightning.Trainer(
        accelerator='cpu', max_epochs=10000, limit_val_batches=0,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, log_every_n_steps=10,
        logger=TensorBoardLogger(folder), callbacks=[waiting, turns], **options)
    trainer.fit(module, datamodule=data)
    # Of the rounds the first warms up, and of a round the first step.
    return (np.array(turns.lightning[1:rounds + 1])[:, 1:], np.array(turns.other[1:])[:, 1:],
            waiting.share)


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
