# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Training of absolute pose regressors (posenet.md sections 5 and 6)."""

from dataclasses import asdict, replace
from typing import Dict, List, Literal, Optional, Tuple

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat
import lightning
import numpy as np
import torch

from geo_perception.environment import describe_machine
from geo_perception.errors import ConfigurationError
from geo_perception.geometry.se3 import (
    canonical_quaternion, quaternion_from_matrix, rotation_angle)
from geo_perception.inference.uncertainty import fit_calibration
from geo_perception.inference.weights import load_weights
from geo_perception.losses.pose import PoseLoss
from geo_perception.model_file import Metadata
from geo_perception.networks.relocalization import build_regressor
from geo_perception.networks.rotation import decode_rotation, encode_rotation, WIDTHS
from geo_perception.preprocessing import Preprocessing
from geo_perception.training.augmentation import augment, Augmentation
from geo_perception.training.checkpoint import CONTENT_KEY
from geo_perception.training.held_out import (
    answer, held_out_answers, LARGEST_STEPS, training_cloud)
from geo_perception.training.relocalization_data import LARGEST_RETRIEVAL
from geo_perception.training.start import begin_with

# What the trunk of the default architecture was pretrained with.
LITE_PREPROCESSING = Preprocessing(short_side=224, crop=(224, 288), std=(128.0, 128.0, 128.0))
# Calibration looks at this many validation frames at most, spread evenly.
LARGEST_CALIBRATION = 500
# How much of the calibration a validation drive of its own decides.
DRIVE_SHARE = 0.8


class RelocalizationModule(lightning.LightningModule):
    """
    A pose regressor, its loss and its optimiser.

    Parameters
    ----------
    architecture : str
        ``posenet`` (Kendall 2015) or ``posenet_lite`` (a light pretrained trunk).
    arguments : dict
        Further arguments of the architecture.
    rotation : str
        ``quaternion`` (2015), ``log_quaternion`` (MapNet) or ``matrix``.
    loss : str
        ``learned`` (2017), ``weighted`` (2015, eq. 2), ``caffe`` (released 2015 code) or
        ``reprojection`` (2017, for fine-tuning).
    beta : float
        Weight of rotation in ``weighted`` and ``caffe``.
    sign_invariant : bool
        Let q and -q count as equal.
    preprocessing : Preprocessing
        From camera image to network input.
    mean : str
        ``fixed``: the one in ``preprocessing``; ``pixel`` or ``image``: mean of the training
        frames, as published.
    augmentation : Augmentation
        What training images go through.
    optimizer : str
        ``adam`` (AdamW), ``adagrad`` (the released Caffe solver) or ``sgd`` (momentum 0.9).
    learning_rate : float
        Step size, at its highest.
    weight_decay : float
        On weights, never on biases or loss weights.
    bias_learning_rate : float
        Factor on the learning rate of biases; 2 in the Caffe solver.
    schedule : str
        ``one_cycle`` or ``constant``.
    start_from : str, optional
        Checkpoint or model file whose weights to begin with, to fine-tune a model, or what
        "geo_perception import backbone" made.
    stretches : int
        Into how many stretches the drive is cut to calibrate the covariance: each is left out
        once, and a head that knows the rest answers for it. 0: on the validation frames alone.
        Networks without a frozen part always do that.
    seed : int
        Of everything random.

    Raises
    ------
    ConfigurationError
        When options do not fit together.

    """

    def __init__(self, architecture: str = 'posenet_lite', arguments: Optional[Dict] = None,
                 rotation: Literal['quaternion', 'log_quaternion', 'matrix'] = 'matrix',
                 loss: Literal['learned', 'weighted', 'caffe', 'reprojection'] = 'learned',
                 beta: float = 500.0, sign_invariant: bool = False,
                 preprocessing: Preprocessing = LITE_PREPROCESSING,
                 mean: Literal['fixed', 'pixel', 'image'] = 'fixed',
                 augmentation: Augmentation = Augmentation(),
                 optimizer: Literal['adam', 'adagrad', 'sgd'] = 'adam',
                 learning_rate: PositiveFloat = 1e-3, weight_decay: NonNegativeFloat = 1e-2,
                 bias_learning_rate: PositiveFloat = 1.0,
                 schedule: Literal['one_cycle', 'constant'] = 'one_cycle',
                 start_from: Optional[str] = None, stretches: NonNegativeInt = 4,
                 seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        arguments = {**(arguments or {}), 'rotation_width': WIDTHS[rotation]}
        if architecture == 'posenet_lite':
            arguments['input_size'] = list(preprocessing.crop)
        self._architecture, self._arguments, self.rotation = architecture, arguments, rotation
        self.network = build_regressor(architecture, arguments)
        if self.network.input_size not in (None, tuple(preprocessing.crop)):
            raise ConfigurationError(
                f'{architecture} takes {self.network.input_size[0]}x{self.network.input_size[1]} '
                f'inputs, preprocessing.crop is {preprocessing.crop}')
        if mean == 'image' and self.network.has_frozen_part:
            raise ConfigurationError(f'{architecture} keeps the mean its trunk was pretrained '
                                     'with; set mean to fixed')
        self._trained = start_from is not None
        if not self._trained:
            self.network.load_pretrained()
        self.loss = PoseLoss(loss, beta, self.network.head_weights, rotation, sign_invariant)
        self.preprocessing, self.augmentation, self.seed = preprocessing, augmentation, seed
        if self._trained:
            self._trained = begin_with(self, start_from, architecture)
        self._mean, self._optimizer, self._schedule = mean, optimizer, schedule
        # Plain numbers again: checkpoints hold nothing that needs code to be read.
        self._learning_rate, self._weight_decay = float(learning_rate), float(weight_decay)
        self._bias_learning_rate = float(bias_learning_rate)
        self._stretches = stretches
        self._frames, self._summary, self._calibration = None, None, None
        self._held_out, self._cloud = None, None
        self._metrics: Dict[str, float] = {}
        self._outputs: List[Tuple[torch.Tensor, ...]] = []
        self._resumed_steps = None

    def recalibrate(self, model):
        """
        Take the weights of a model file, to calibrate it in `validate` and not to train it.

        Parameters
        ----------
        model : ModelFile
            For relocalization.

        Raises
        ------
        ConfigurationError
            When it is of another network.

        """
        header = model.metadata
        found = header.architecture, header.arguments, header.rotation
        if found != (self._architecture, self._arguments, self.rotation):
            raise ConfigurationError(f'{model.path} is {found[0]} with {found[1]}, the '
                                     f'configuration says {self._name()}; give the --config that '
                                     'it was trained with')
        load_weights(self.network, model)
        self.preprocessing, self._mean, self._trained = header.preprocessing, 'fixed', True

    def calibrated(self, model):
        """
        Return metadata and tensors of a model file with the calibration of this module.

        Parameters
        ----------
        model : ModelFile
            See `recalibrate`.

        Returns
        -------
        metadata : Metadata
        tensors : dict of str to np.ndarray

        """
        tensors = {**model.tensors, **({} if self._cloud is None else self._cloud.tensors())}
        return replace(model.metadata, calibration=asdict(self._calibration)), tensors

    def _name(self):
        """Return the network in words."""
        return f'{self._architecture} with {self._arguments}'

    def fit_to_scene(self, frames, summary):
        """
        Take from the training frames what is not learned: mean, output biases, camera.

        Parameters
        ----------
        frames : PosedImages
            Training frames.
        summary : dict
            Description of the data for the model file.

        """
        self._frames, self._summary = frames, summary
        if self._mean != 'fixed':
            images = frames.images
            mean = np.zeros(images.shape[1:])
            for image in images:
                mean += image
            mean /= len(images)
            if self.preprocessing.channel_order == 'bgr':
                mean = mean[..., ::-1]
            if self._mean == 'image':
                self.preprocessing = replace(self.preprocessing,
                                             mean_image=mean.astype(np.float32))
            else:
                self.preprocessing = replace(self.preprocessing,
                                             mean=tuple(mean.mean((0, 1)).tolist()))
        if self._trained:
            return
        torch.manual_seed(self.seed)
        self._begin_in_scene(self.network, frames.poses)

    def _begin_in_scene(self, network, poses):
        """Begin training where some poses are."""
        position, rotation = self._targets(torch.from_numpy(poses))
        extent = position.amax(0) - position.amin(0)
        network.fit_to_scene(position.mean(0), extent.clamp_min(1e-3), rotation.mean(0),
                             self._frames.crop_K(self.preprocessing))

    def untrained(self, poses, steps):
        """
        Return what a training begins with, without the pretrained trunk.

        Parameters
        ----------
        poses : np.ndarray
            Training poses, shape (N, 4, 4).
        steps : int
            Length of the training.

        Returns
        -------
        network : PoseRegressor
        loss : PoseLoss
        optimizer : torch.optim.Optimizer
        schedule : torch.optim.lr_scheduler.LRScheduler

        """
        network = build_regressor(self._architecture, self._arguments)
        self._begin_in_scene(network, poses)
        # Reprojection can only improve what is trained already.
        kind = 'learned' if self.loss.kind == 'reprojection' else self.loss.kind
        loss = PoseLoss(kind, self.loss.beta, network.head_weights, self.rotation,
                        self.loss.sign_invariant)
        optimizer = self._make_optimizer(network.to(self.device).train(), loss.to(self.device))
        return network, loss, optimizer, self._make_schedule(optimizer, max(steps, 2))

    def loss_of(self, network, loss, inputs, poses, points=None):
        """
        Return the loss of one batch.

        Parameters
        ----------
        network : PoseRegressor
            What is trained.
        loss : PoseLoss
            Its objective.
        inputs : torch.Tensor
            From the frozen part of the network.
        poses : torch.Tensor
            ``T_world_camera``, shape (B, 4, 4).
        points : torch.Tensor, optional
            See `PoseLoss`.

        Returns
        -------
        torch.Tensor
            Scalar, finite.

        Raises
        ------
        ConfigurationError
            When the training diverged.

        """
        try:
            value = loss(network.heads(inputs), *self._targets(poses), points)
        except torch.linalg.LinAlgError as error:
            raise self._not_finite() from error
        if not torch.isfinite(value):
            raise self._not_finite()
        return value

    def _targets(self, poses):
        """Return position and rotation targets of poses, shape (B, 4, 4)."""
        R = poses[:, :3, :3]
        quaternion = quaternion_from_matrix(R.cpu().numpy())
        quaternion = torch.from_numpy(canonical_quaternion(quaternion)).to(poses.device)
        return (poses[:, :3, 3].float(),
                encode_rotation(quaternion, self.rotation).float())

    def training_step(self, batch, batch_index):
        """Return the loss of one batch."""
        # Chance depends on seed, step and rank alone, so a resumed run goes on as it was.
        torch.manual_seed(hash((self.seed, self.global_step, batch_index, self.global_rank)))
        inputs, poses = batch['input'], batch['pose']
        if inputs.dtype == torch.uint8:
            K = self._frames.K
            # Mixed precision would round what turns the camera to 8 bits.
            with torch.autocast(self.device.type, enabled=False):
                inputs, R, offset = augment(inputs, poses[:, :3, :3].float(),
                                            None if K is None else K.to(inputs.device),
                                            self.preprocessing.crop, self.augmentation)
            poses = poses.clone()
            poses[:, :3, :3] = R
            inputs = self.network.frozen(self.preprocessing.normalise(inputs, offset))
        loss = self.loss_of(self.network, self.loss, inputs.float(), poses, batch.get('points'))
        self.log('train/loss', loss, prog_bar=True)
        return loss

    def _not_finite(self):
        """Return what to raise when weights or loss are beyond all numbers."""
        return ConfigurationError(
            f'the training diverged: loss or poses are not finite after step {self.global_step}; '
            'lower --model.learning_rate, and check beta if the loss is "weighted" or "caffe"')

    def validation_step(self, batch, batch_index):
        """Collect the answers for one batch."""
        inputs = batch['input']
        if inputs.dtype == torch.uint8:
            crops = torch.stack([torch.from_numpy(self.preprocessing.centre_crop(image))
                                 for image in inputs.cpu().numpy()]).to(inputs.device)
            inputs = self.network.frozen(self.preprocessing.normalise(crops))
        features = self.network.upper(inputs.float()).float()
        # In mixed precision too: this is what inference does.
        with torch.autocast(self.device.type, enabled=False):
            try:
                position, rotation = self.network.regress(features)
            except torch.linalg.LinAlgError as error:
                raise self._not_finite() from error
        self._outputs.append((features, position, decode_rotation(rotation, self.rotation),
                              batch['pose']))

    def on_validation_epoch_end(self):
        """Score the answers, and calibrate the covariance on them."""
        features, position, R, poses = (torch.cat(column) for column in zip(*self._outputs))
        self._outputs.clear()
        if not (position.isfinite().all() and R.isfinite().all()):
            raise self._not_finite()
        every = max(1, -(-len(poses) // LARGEST_CALIBRATION))
        views = self.trainer.datamodule.frozen_views
        self._cloud = None if views is None else training_cloud(
            self.network, views.inputs, np.arange(len(views.inputs)))
        answers = answer(self.network, self.rotation, features[::every], poses[::every],
                         self._cloud)
        columns = position, R, poses, answers.errors, answers.covariances, answers.novelties
        if self.trainer.world_size > 1:
            columns = (self.all_gather(x.to(self.device)).flatten(0, 1) for x in columns)
        position, R, poses, *answers = (x.double().cpu().numpy() for x in columns)
        position_error = np.linalg.norm(position - poses[:, :3, 3], axis=1)
        rotation_error = np.rad2deg(rotation_angle(R, poses[:, :3, :3]))
        self._metrics = {'position_median_m': float(np.median(position_error)),
                         'orientation_median_deg': float(np.median(rotation_error))}
        self._calibration = self._calibrate(*answers)
        for name, value in self._metrics.items():
            self.log(f'val/{name}', value, prog_bar=True)
        # The geometric mean weighs a per cent of position like a per cent of orientation.
        self.log('val/error', np.sqrt(np.prod(list(self._metrics.values()))))

    def _calibrate(self, errors, covariances, novelties):
        """Return the calibration of answers for validation frames and for left out ones."""
        weights = np.ones(len(errors))
        left_out = self._left_out()
        if left_out is not None:
            n = len(left_out.errors)
            # A drive of its own is what the robot will meet, and left out stretches only tell how
            # errors grow beside it; frames between training frames are a few more of the easy.
            share = DRIVE_SHARE if self.trainer.datamodule.has_validation_drive else (
                len(errors) / (len(errors) + n))
            weights = np.repeat([share / len(errors), (1.0 - share) / n], [len(errors), n])
            errors, covariances, novelties = (
                np.concatenate([ours, theirs.numpy()]) for ours, theirs in (
                    (errors, left_out.errors), (covariances, left_out.covariances),
                    (novelties, left_out.novelties)))
        return fit_calibration(errors, covariances, self._similarities(),
                               None if self._cloud is None else novelties, weights)

    def _left_out(self):
        """Return answers for stretches that heads did not train on; None without any."""
        data = self.trainer.datamodule
        if (self._held_out is None and data.frozen_views is not None
                and 2 <= self._stretches <= len(data.frozen_views.recorded) // 2):
            steps = LARGEST_STEPS
            if self.trainer.state.fn == 'fit':
                steps = int(min(steps, self.trainer.estimated_stepping_batches))
            self._held_out = held_out_answers(self, data.frozen_views, self._stretches, steps,
                                              data.batch_size)
        return self._held_out

    def _similarities(self):
        """Return how alike each validation frame is to its nearest training frame."""
        thumbnails, _ = self._retrieval()
        val = self.trainer.datamodule.val.thumbnails
        return (val.reshape(len(val), -1) @ thumbnails.reshape(len(thumbnails), -1).T).max(1)

    def _retrieval(self):
        """Return thumbnails and poses that the model file keeps."""
        every = max(1, -(-len(self._frames.poses) // LARGEST_RETRIEVAL))
        return self._frames.thumbnails[::every], self._frames.poses[::every]

    def on_fit_start(self):
        """
        Leave out stretches, and turn dropout on.

        The engine that ran the frozen layers has turned it off.
        """
        self._left_out()
        self.train()

    def configure_optimizers(self):
        """Return the optimiser, decay on weights only, and its schedule."""
        optimizer = self._make_optimizer(self.network, self.loss)
        if self._schedule == 'constant':
            return optimizer
        steps = max(int(self.trainer.estimated_stepping_batches), 2)
        if self._resumed_steps not in (None, steps):
            raise ConfigurationError(
                f'the run to resume was one of {self._resumed_steps} steps, this one has {steps}: '
                'resume with the same recordings, --data.batch_size and --trainer.max_epochs, or '
                'begin a new run with --model.start_from')
        return {'optimizer': optimizer, 'lr_scheduler': {
            'scheduler': self._make_schedule(optimizer, steps), 'interval': 'step'}}

    def _make_optimizer(self, network, loss):
        """Return the optimiser of a network and its loss, decay on weights only."""
        weights, biases = [], []
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                (biases if name.endswith('bias') else weights).append(parameter)
        rate = self._learning_rate
        groups = [{'params': weights, 'lr': rate, 'weight_decay': self._weight_decay},
                  {'params': biases, 'lr': rate * self._bias_learning_rate, 'weight_decay': 0.0}]
        if loss.log_variance.requires_grad:
            groups.append({'params': [loss.log_variance], 'lr': 10 * rate,
                           'weight_decay': 0.0})
        return {'adam': torch.optim.AdamW,
                'adagrad': lambda g: torch.optim.Adagrad(g, eps=1e-8),
                'sgd': lambda g: torch.optim.SGD(g, lr=rate, momentum=0.9),
                }[self._optimizer](groups)

    def _make_schedule(self, optimizer, steps):
        """Return the schedule of an optimiser."""
        if self._schedule == 'constant':
            return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 0)
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [group['lr'] for group in optimizer.param_groups], total_steps=steps,
            cycle_momentum=False)

    def on_load_checkpoint(self, checkpoint):
        """Refuse a checkpoint of another network, and remember how long its run was to be."""
        metadata = checkpoint[CONTENT_KEY]['metadata']
        found = tuple(metadata[name] for name in ('architecture', 'arguments', 'rotation'))
        if found != (self._architecture, self._arguments, self.rotation):
            raise ConfigurationError(f'the run to resume trains {found[0]} with {found[1]}, this '
                                     f'one {self._name()}; give it the same --config')
        for schedule in checkpoint['lr_schedulers']:
            self._resumed_steps = schedule['total_steps']

    def on_save_checkpoint(self, checkpoint):
        """Add all that `geo_perception export` needs: numbers, strings and tensors only."""
        metadata, tensors = self._export()
        header = asdict(metadata)
        mean_image = header['preprocessing'].pop('mean_image')
        if mean_image is not None:
            tensors['preprocessing.mean_image'] = mean_image
        checkpoint[CONTENT_KEY] = {
            'metadata': header,
            'tensors': {name: torch.from_numpy(np.ascontiguousarray(value))
                        for name, value in tensors.items()}}

    def _export(self):
        """Return metadata and extra tensors of the model file."""
        thumbnails, poses = self._retrieval()
        return Metadata(
            job='relocalization', architecture=self._architecture, arguments=self._arguments,
            preprocessing=self.preprocessing, rotation=self.rotation,
            world_frame=self._frames.world_frame, training_camera=self._frames.recorded_camera,
            calibration={} if self._calibration is None else asdict(self._calibration),
            data={**self._summary, 'epochs': self.current_epoch + 1,
                  'steps': self.global_step, 'seed': self.seed},
            metrics=self._metrics, versions=describe_machine(),
        ), {'retrieval.thumbnails': thumbnails.astype(np.float16), 'retrieval.poses': poses,
            **({} if self._cloud is None else self._cloud.tensors())}
