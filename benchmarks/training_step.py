# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
A training step through Lightning, against a PyTorch loop.

The step of ``geo_perception train`` holds everything: taking the batch from the cache, cropping,
logging, Lightning's hooks. The other loop has one batch that lies in memory ready for the network.
For relocalization it is bare: the same network, loss and optimiser. For depth and ego-motion it is
plain: the same graph as one writes it down first, see plain_view_synthesis.py; so it is for
optical flow, see plain_flow.py, and for depth from stereo pairs, see plain_monodepth.py. Both take
turns within one training run, each network in a process of its own.
"""

from functools import partial
import logging
from pathlib import Path
import tempfile
import time

from harness import argument_parser, in_a_process_of_its_own, ratio, Results
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
# As published: 416x128, batches of 4, three frames; names of untrained_model.py.
VIDEO_RECIPES = ('sfmlearner', 'geonet', 'geonet_vgg', 'geonet_flow')
# As published but for the batch of 8, which takes too long on a small machine: 512x256.
STEREO_RECIPES = {'monodepth_vgg': 2, 'monodepth_resnet50': 2}
# So much may the loss of a plain step differ from ours, relative: GPUs multiply with 11 bits.
ROUNDING = 1e-2


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=10)
    parser.add_argument('--architectures', nargs='+',
                        default=[*RECIPES, 'sfmlearner', 'geonet', 'geonet_flow',
                                 'monodepth_vgg'],
                        choices=[*RECIPES, *VIDEO_RECIPES, *STEREO_RECIPES],
                        help='networks to measure')
    parser.add_argument('--precision', default='32-true',
                        choices=['32-true', 'bf16-mixed', '16-mixed'],
                        help='of our step for depth and flow; the plain loop has 32 bits')
    parser.add_argument('--device', default='auto', help='auto, cpu or cuda')
    parser.add_argument('--batch-size', type=int, help='in place of what is usual here')
    arguments = parser.parse_args()
    results = Results(arguments)
    with tempfile.TemporaryDirectory() as folder:
        _write_recording(Path(folder, 'recording'))
        for architecture in arguments.architectures:
            _measure(architecture, folder, arguments, results)
    results.write()


def _measure(architecture, folder, arguments, results):
    """Measure one network, and show what came out."""
    measure = (_relocalization if architecture in RECIPES else
               _stereo if architecture in STEREO_RECIPES else _video)
    # So that the memory is that of this training.
    outcome = in_a_process_of_its_own(measure, architecture, folder, arguments)
    where = f"{architecture}, {outcome['size']}, {outcome['device']}"
    bare = architecture in RECIPES
    if not bare:
        where += f', {arguments.precision}'
    other = 'bare PyTorch' if bare else 'plain PyTorch'
    results.times(where, {'geo_perception train': outcome['ours'], other: outcome['other']})
    results.target(f'step of geo_perception train / {other}, {where}',
                   ratio(outcome['ours'], outcome['other']), 1.1 if bare else 0.7)
    if not bare:
        results.target(f'share of the time waiting for data, {where}', outcome['share'], 0.05)
    results.note(f'memory of geo_perception train, {where}', f"{outcome['memory_mib']:.0f} MiB")


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


def _relocalization(architecture, folder, arguments):
    """Measure a step of relocalization."""
    from geo_perception.training.novel_views import NovelViews
    from geo_perception.training.relocalization import RelocalizationModule
    from geo_perception.training.relocalization_data import RelocalizationData

    recipe, recording = RECIPES[architecture], str(Path(folder, 'recording'))
    size = arguments.batch_size or recipe['batch_size']
    return _take_turns(
        RelocalizationModule(**recipe['model'], stretches=0),
        RelocalizationData(recording, recording, batch_size=size, views=recipe['views'],
                           novel_views=NovelViews(count=0)),
        partial(_bare_step, recipe), f'batches of {size}', folder, arguments,
        gradient_clip_val=recipe['clip'])


def _video(architecture, folder, arguments):
    """Measure a step of depth and ego-motion, or of flow on top of them."""
    from plain_flow import PlainFlowStep
    from plain_view_synthesis import PlainStep
    from untrained_model import VIDEO_NETWORKS, write_untrained_model

    from geo_perception.losses.flow import GEONET_FLOW
    from geo_perception.losses.view_synthesis import GEONET_RIGID, SFMLEARNER
    from geo_perception.training.flow import FlowModule
    from geo_perception.training.view_synthesis import ViewSynthesisModule
    from geo_perception.training.view_synthesis_data import ViewSynthesisData

    depth, depth_arguments, egomotion_arguments = VIDEO_NETWORKS[architecture]
    plain_step = PlainStep
    if architecture == 'geonet_flow':
        rigid, plain_step = Path(folder, 'rigid.safetensors'), PlainFlowStep
        write_untrained_model(rigid, 'geonet')
        module = FlowModule(str(rigid), flow_loss=GEONET_FLOW)
    else:
        module = ViewSynthesisModule(
            depth, depth_arguments, egomotion_arguments=egomotion_arguments, stretch=True,
            loss=SFMLEARNER if architecture == 'sfmlearner' else GEONET_RIGID)
    size = arguments.batch_size or 4

    def plain(module, batch):
        images, K = module.inputs(batch)
        step = plain_step(module, images, K)
        _check_same(step.loss(), module.terms(images, images, K)['total'])
        return step

    recording = str(Path(folder, 'recording'))
    return _take_turns(module, ViewSynthesisData(recording, recording, batch_size=size), plain,
                       f'416x128, batches of {size}', folder, arguments,
                       precision=arguments.precision)


def _check_same(theirs, ours):
    """Refuse to measure a plain step that stands for another one."""
    difference = abs(theirs.item() - ours.item()) / abs(ours.item())
    if not difference < ROUNDING:
        raise SystemExit(f'the plain step computes something else: off by {difference:.2g}')


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


def _stereo(architecture, folder, arguments):
    """Measure a step of depth from stereo pairs."""
    from plain_monodepth import PlainStep

    from geo_perception.losses.stereo import StereoOptions
    from geo_perception.training.stereo import StereoModule
    from geo_perception.training.stereo_data import StereoData

    pairs = Path(folder, 'pairs')
    if not pairs.exists():
        _write_pairs(pairs)
    module = StereoModule(architecture, loss=StereoOptions(border='published'))
    size = arguments.batch_size or STEREO_RECIPES[architecture]

    def plain(module, batch):
        left, right, _ = module.inputs(batch)
        step = PlainStep(module, left, right)
        _check_same(step.loss(), module.loss(left, right, module.network(left))['total'])
        return step

    return _take_turns(module, StereoData(str(pairs), str(pairs), batch_size=size), plain,
                       f'512x256, batches of {size}', folder, arguments,
                       precision=arguments.precision)


def _take_turns(module, data, other, size, folder, arguments, **options):
    """
    Train, and let the other loop have its turn now and then.

    Parameters
    ----------
    module : LightningModule
        What is trained.
    data : LightningDataModule
        On what.
    other : callable
        Called with the module and a batch on its device: returns a step of the other loop.
    size : str
        Of images and batches, for people.
    folder : str
        For logs.
    arguments : argparse.Namespace
        Of this program.
    **options
        Of Lightning's trainer.

    Returns
    -------
    dict
        ``ours``, ``other``: seconds a step, shape (rounds, steps); ``share`` of the time that
        ours waited for data; ``memory_mib`` that it took: of the process, or that PyTorch reserved
        on a GPU; ``size``; ``device``.

    """
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger
    import torch

    from geo_perception.inference.engine import resolve_device
    from geo_perception.training.monitoring import DataWait

    device, rounds = resolve_device(arguments.device), arguments.rounds

    def wait():
        if device.type == 'cuda':
            torch.cuda.synchronize(device)

    def timed(function):
        started = time.perf_counter()
        function()
        wait()
        return time.perf_counter() - started

    class Waiting(DataWait):
        """Counts as work what a GPU has still to do when a step returns."""

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            wait()
            super().on_train_batch_end(trainer, module, outputs, batch, batch_index)

    class Turns(lightning.Callback):
        """Stops training after each round and lets the other loop have its turn."""

        def __init__(self):
            self._other = self._mark = None
            self.lightning, self.other, self.memory = [[]], [], None

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
            now = time.perf_counter()
            if self._mark is not None:
                self.lightning[-1].append(now - self._mark)
            if len(self.lightning[-1]) == STEPS + 1:
                if self._other is None:
                    self.memory = _memory_mib(device)
                    batch = next(iter(trainer.datamodule.train_dataloader()))
                    self._other = other(module, trainer.strategy.batch_to_device(batch))
                self.other.append([timed(self._other) for _ in range(STEPS + 1)])
                waiting.on_train_epoch_start(trainer, module)   # that was no waiting for data
                if len(self.other) == rounds + 1:
                    trainer.should_stop = True
                self.lightning.append([])
            self._mark = time.perf_counter()

    logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
    turns, waiting = Turns(), Waiting()
    trainer = lightning.Trainer(
        accelerator='gpu' if device.type == 'cuda' else 'cpu', devices=1, max_epochs=10000,
        limit_val_batches=0, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, log_every_n_steps=10,
        logger=TensorBoardLogger(folder), callbacks=[waiting, turns], **options)
    trainer.fit(module, datamodule=data)
    # Of the rounds the first warms up, and of a round the first step.
    return {'ours': np.array(turns.lightning[1:rounds + 1])[:, 1:],
            'other': np.array(turns.other[1:])[:, 1:], 'share': waiting.share,
            'memory_mib': turns.memory, 'size': size,
            'device': (torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU')}


def _memory_mib(device):
    """Return the most memory that was in use so far."""
    import torch

    if device.type == 'cuda':
        return torch.cuda.max_memory_reserved(device) / 2 ** 20
    # Not of getrusage: that begins with what the parent had.
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith('VmHWM')).split()[1]) / 2 ** 10


def _bare_step(recipe, module, batch):
    """Return a function that trains a twin of the module's network on one batch in memory."""
    import torch

    from geo_perception.geometry.se3 import canonical_quaternion, quaternion_from_matrix
    from geo_perception.networks.rotation import encode_rotation
    from geo_perception.training.relocalization import RelocalizationModule

    options = {**recipe['model'], 'schedule': 'constant'}
    twin = RelocalizationModule(**options)
    twin.load_state_dict(module.state_dict())
    twin.to(module.device)
    optimizer = twin.configure_optimizers()
    inputs, poses = batch['input'].cpu(), batch['pose'].cpu()
    if inputs.dtype == torch.uint8:
        crops = [module.preprocessing.centre_crop(image) for image in inputs]
        inputs = module.preprocessing.normalise(torch.stack(crops))
    quaternions = canonical_quaternion(quaternion_from_matrix(poses[:, :3, :3].numpy()))
    rotation = encode_rotation(torch.from_numpy(quaternions), options.get('rotation', 'matrix'))
    inputs, position, rotation = (x.float().contiguous().to(module.device)
                                  for x in (inputs, poses[:, :3, 3], rotation))

    def step():
        loss = twin.loss(twin.network.heads(inputs), position, rotation)
        optimizer.zero_grad()
        loss.backward()
        if recipe['clip']:
            torch.nn.utils.clip_grad_norm_(twin.parameters(), recipe['clip'])
        optimizer.step()
    return step


if __name__ == '__main__':
    main()
