# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What a number was measured on: machine and versions, read without importing anything heavy."""

from importlib import metadata
import os
from pathlib import Path
import platform
import shlex
import sys

from geo_perception import __version__

# Several distributions provide the same module: the first one installed is the one in use.
_PACKAGES = {
    'torch': ('torch',),
    'openvino': ('openvino',),
    'numpy': ('numpy',),
    'opencv': ('opencv-python-headless', 'opencv-python', 'opencv-contrib-python', 'opencv'),
    'rosbags': ('rosbags',),
}
_ROS_DISTROS = ('humble', 'jazzy', 'kilted', 'lyrical')


def describe_machine():
    """
    Return the machine and the versions a result depends on.

    Returns
    -------
    dict
        Text by name: ``cpu``, ``cores`` (those this process may use), ``memory``, ``gpu``,
        ``os``, ``kernel``, ``python``, ``geo_perception``, ``ros`` (distribution and rclpy
        version) and one entry for each package that decides speed or accuracy. What is not
        there is left out.

    """
    facts = {
        'cpu': _cpu_name(),
        'cores': str(len(os.sched_getaffinity(0))),
        'memory': f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        'gpu': _gpu_names(),
        'os': _os_name(),
        'kernel': platform.release(),
        'python': platform.python_version(),
        'geo_perception': __version__,
        'ros': _ros(),
        **{name: _version(*distributions) for name, distributions in _PACKAGES.items()},
    }
    return {name: value for name, value in facts.items() if value}


def command_line():
    """
    Return the command that started this process, to be stored with its results.

    Returns
    -------
    str

    """
    program = Path(sys.argv[0])
    is_module = (program.parent / '__init__.py').exists()   # started with python -m
    name = program.parent.name if is_module else program.name
    return shlex.join([name, *sys.argv[1:]])


def _cpu_name():
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    for key in ('model name', 'Model', 'Hardware'):
        for line in lines:
            if line.startswith(key):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def _gpu_names():
    """Read the driver's own files: asking torch would cost seconds and a CUDA context."""
    names = []
    for path in sorted(Path('/proc/driver/nvidia/gpus').glob('*/information')):
        for line in path.read_text().splitlines():
            if line.startswith('Model:'):
                names.append(line.partition(':')[2].strip())
    return ', '.join(names)


def _os_name():
    try:
        return platform.freedesktop_os_release()['PRETTY_NAME']
    except (OSError, KeyError):
        return platform.system()


def _version(*distributions):
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _ros():
    """
    Name the distribution and its rclpy.

    A sourced distribution says its name in ``ROS_DISTRO``; the wheels do not, but carry it in
    theirs. The version in the name ``rclpy`` itself is not kept up to date by the wheels.
    """
    sourced = os.environ.get('ROS_DISTRO')
    for distro in [sourced] if sourced else _ROS_DISTROS:
        version = _version(f'ros-{distro}-rclpy')
        if version:
            return f'{distro} (wheels, rclpy {version})'
    version = _version('rclpy')
    return f"{sourced or 'unknown distribution'} (rclpy {version})" if version else None
