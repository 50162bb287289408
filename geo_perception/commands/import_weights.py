# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception import``: make a model file of published weights."""

from typing import List, Literal, Optional, Tuple

# Names of variables that are printed; the summary has all of them.
MOST_NAMES = 8


def posenet(source: str, *, mean: Optional[Tuple[float, float, float]] = None,
            mean_image: Optional[str] = None, padding: Literal['auto', 'caffe', 'tf'] = 'auto',
            world_frame: str = 'map', corrected: bool = False, **options):
    """
    Make a model file of Kendall's PoseNet.

    The weights do not say what was subtracted from images: give the mean of the training images,
    or poses are worse than published. Neither do they say how sure poses are: the covariance is
    that of the samples and the usual error in the literature.

    Parameters
    ----------
    source : str
        posenet.npy (a dictionary of layers), .npz with names such as conv1/weights, or
        TensorFlow checkpoint.
    mean : list of float, optional
        Mean of the training images: blue, green, red, 0..255; by default that of ImageNet.
    mean_image : str, optional
        Mean image instead: .npy of numbers, (256, W, 3), blue green red.
    padding : str
        Zeros around the image: ``caffe``, for weights trained there; ``tf``, for those that were
        trained further in TensorFlow; ``auto``: ``tf`` for a TensorFlow checkpoint.
    world_frame : str
        Name of the frame that poses are in.
    corrected : bool
        Leave known bugs of the published behaviour out, and say which.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.numpy_files import read_mean_image
    from geo_perception.importers.posenet import import_posenet

    image = None if mean_image is None else read_mean_image(mean_image)
    return _import(import_posenet, [source], {
        'mean': mean, 'mean_image': image, 'padding': padding, 'world_frame': world_frame,
        'corrected': corrected}, **options)


def sfmlearner(sources: List[str], *, corrected: bool = False, **options):
    """
    Make a model file of SfMLearner's depth and ego-motion networks.

    Both releases (with batch norm, without), snippets of any length and the mask decoder are
    recognised by the variables. The model prepares images as the published evaluation does.

    Parameters
    ----------
    sources : list of str
        TensorFlow checkpoints (what their .index and .data files have in common, such as
        model-190532), or .npz files of arrays by the names of the variables; each network is
        taken from the first that has it.
    corrected : bool
        Leave known bugs of the published behaviour out, and say which.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.sfmlearner import import_sfmlearner

    return _import(import_sfmlearner, sources, {'corrected': corrected}, **options)


def sfmlearner_pytorch(sources: List[str], **options):
    """
    Make a model file of the well-known port of SfMLearner to PyTorch.

    Its paddings and enlargements differ from the original's, and are kept. Masks are left out.

    Parameters
    ----------
    sources : list of str
        Files of the depth and of the ego-motion network, in any order: dispnet.pth.tar
        exp_pose.pth.tar.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.sfmlearner_pytorch import import_sfmlearner_pytorch

    return _import(import_sfmlearner_pytorch, sources, {}, **options)


def geonet(sources: List[str], *, corrected: bool = False, scale_normalize: bool = False,
           **options):
    """
    Make a model file of GeoNet's networks: depth, ego-motion and, where it is there, flow.

    Encoder, snippet length and variant of the flow network are recognised by the variables. The
    model prepares images as the published evaluation of depth does.

    Parameters
    ----------
    sources : list of str
        TensorFlow checkpoints (what their .index and .data files have in common), or .npz files
        of arrays by the names of the variables; each network is taken from the first that has
        it.
    corrected : bool
        Leave known bugs of the published behaviour out, and say which.
    scale_normalize : bool
        Set it for networks trained with the flag of this name (the file model_sn), which the
        variables do not tell.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.geonet import import_geonet

    return _import(import_geonet, sources, {
        'corrected': corrected, 'scale_normalize': scale_normalize}, **options)


def monodepth(source: str, *, rig: Literal['kitti', 'cityscapes'] = 'kitti',
              camera: Optional[Tuple[int, int, float, float, float, float]] = None,
              baseline: Optional[float] = None, corrected: bool = False, **options):
    """
    Make a model file of Monodepth's network, for metric depth from one image.

    The encoder, VGG or ResNet-50, is recognised by the variables. They do not tell which stereo
    camera they were trained with, which is where metres come from: say it. The model prepares
    images as the published evaluation does.

    Parameters
    ----------
    source : str
        TensorFlow checkpoint (what its .index and .data files have in common, such as
        model_kitti), or .npz of arrays by the names of the variables.
    rig : str
        Stereo camera of the training, of the last one where there were several: model_city2kitti
        has ``kitti``.
    camera : list of float, optional
        Left camera of another rig: [width, height, fx, fy, cx, cy], pixels of its images.
    baseline : float, optional
        Distance of the cameras of that rig, metres.
    corrected : bool
        Leave known bugs of the published behaviour out, and say which.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.monodepth import import_monodepth

    return _import(import_monodepth, [source], {
        'rig': rig, 'camera': camera, 'baseline': baseline, 'corrected': corrected}, **options)


def backbone(source: str, *,
             network: Optional[Literal['posenet', 'dispnet_resnet50',
                                       'monodepth_resnet50']] = None, **options):
    """
    Take the trunk of a pretrained classifier, for ``train ... --init`` to begin with.

    Files have torchvision's names: GoogLeNet for posenet, ResNet-50 for the depth networks. Which
    layers were taken, and which not, is printed. Of posenet.npy, which has PoseNet's own layers,
    all are taken.

    Parameters
    ----------
    source : str
        State dict (.pth), .npz or .safetensors with torchvision's names, or posenet.npy.
    network : str, optional
        Whose trunk it becomes; a GoogLeNet is always posenet's.
    **options
        See `_import`.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from geo_perception.importers.backbone import import_backbone

    return _import(import_backbone, [source], {'network': network}, **options)


def _import(build, paths, arguments, *, output: str, json: Optional[str] = None):
    """
    Read files, make the model, write it and tell of it; its options are those of all verbs.

    Parameters
    ----------
    build : callable
        Makes it of the sources.
    paths : list of str
        Of them.
    arguments : dict
        Further ones, for ``build``.
    output : str
        File to write (.safetensors).
    json : str, optional
        Write a summary to this file, with the names of all variables.

    Returns
    -------
    dict
        What was taken, what was ignored, and the size of the file.

    """
    from dataclasses import replace
    from pathlib import Path

    from geo_perception.commands.outcome import write_outcome
    from geo_perception.environment import describe_machine
    from geo_perception.importers.sources import read_source
    from geo_perception.model_file import save_model_file

    imported = build([read_source(path) for path in paths], **arguments)
    save_model_file(output, replace(imported.metadata, versions=describe_machine()),
                    imported.tensors)
    for sentence in imported.account:
        print(sentence)
    for path, names in imported.ignored.items():
        if names:
            more = f' and {len(names) - MOST_NAMES} more' if len(names) > MOST_NAMES else ''
            print(f'ignored: {len(names)} of {path}: {", ".join(names[:MOST_NAMES])}{more}')
    megabytes = Path(output).stat().st_size / 1e6
    print(f'wrote {output} ({megabytes:.1f} MB)')
    summary = {'output': output, 'megabytes': megabytes, 'taken': imported.taken,
               'ignored': imported.ignored, 'account': imported.account}
    write_outcome(json, summary)
    return summary
