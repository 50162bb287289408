# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""Set-up on strange machines, played by stand-ins: one sentence, or no work done twice."""

import os
from pathlib import Path
import shutil
import subprocess

import pytest
from source_tree import ROOT

# Answers what set_up.sh asks of an interpreter, and writes down what it is told to do.
PYTHON = """#!/bin/sh
case "$*" in
    *version_info*) echo {version} ;;
    *ensurepip*) exit {no_venv} ;;
    *realpath*) echo "$0" ;;
    *rclpy*) exit {no_rclpy} ;;
    *cv2*) exit {no_cv2} ;;
    *numpy.__version__*) echo numpy==1.26.4 ;;
    --version) echo Python {version}.0 ;;
    '-m venv'*) echo "$*" >> "$LOG"; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *) echo "$*" >> "$LOG" ;;
esac
"""
TOOLS = ('cat', 'cp', 'dirname', 'grep', 'mkdir', 'rm', 'sh', 'sha256sum', 'touch')


class Machine:
    """A clean clone on a machine with nothing but stand-in interpreters."""

    def __init__(self, folder, machine='x86_64'):
        self.clone, self.bin, self.log = (folder / name for name in ('clone', 'bin', 'log'))
        self.bin.mkdir()
        for name in ('requirements', 'tools'):
            shutil.copytree(ROOT / name, self.clone / name)
        (self.clone / 'geo_perception').mkdir()
        for name in ('setup.py', 'geo_perception/__init__.py'):
            shutil.copy(ROOT / name, self.clone / name)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.program('uname', f'#!/bin/sh\ntest "$1" = -s && echo Linux || echo {machine}\n')

    def program(self, name, text):
        """Put a program on the PATH."""
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def python(self, name, version='3.11', no_venv=0, no_rclpy=0, no_cv2=0):
        """Put an interpreter on the PATH; the numbers are exit codes of the imports."""
        self.program(name, PYTHON.format(
            version=version, no_venv=no_venv, no_rclpy=no_rclpy, no_cv2=no_cv2))

    def set_up(self, **environment):
        """Run set_up.sh and return it with what the interpreters were told, line by line."""
        self.log.write_text('')
        result = subprocess.run(
            ['sh', 'tools/set_up.sh'], cwd=self.clone, text=True, capture_output=True,
            env={'PATH': str(self.bin), 'LOG': str(self.log), **environment})
        return result, self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path):
    """Yield a machine of the usual kind, still without Python."""
    return Machine(tmp_path)


def sentence(result):
    """Return what a failed set-up said: one line, nothing else."""
    assert result.returncode != 0
    assert result.stderr.count('\n') == 1 and result.stderr.startswith('geo_perception: ')
    return result.stderr


SOURCED = {'ROS_DISTRO': 'jazzy', 'AMENT_PREFIX_PATH': '/opt/ros/jazzy'}


def test_no_python(machine):
    """Nothing that could run."""
    assert 'Python 3.10 to 3.13 is needed' in sentence(machine.set_up()[0])


def test_old_python(machine):
    """Only a Python that is too old."""
    machine.python('python3', '3.9')
    assert 'python3 is Python 3.9; install one of them' in sentence(machine.set_up()[0])


def test_no_venv_module(machine):
    """Debian's Python without its venv package."""
    machine.python('python3', '3.11', no_venv=1)
    assert 'sudo apt install python3.11-venv' in sentence(machine.set_up()[0])


def test_wrong_choice(machine):
    """A PYTHON that does not exist is not silently replaced."""
    machine.python('python3')
    assert 'python9 cannot be run' in sentence(machine.set_up(PYTHON='python9')[0])


def test_processor_without_wheels(tmp_path):
    """An ARM board without ROS."""
    machine = Machine(tmp_path, machine='aarch64')
    machine.python('python3')
    said = sentence(machine.set_up()[0])
    assert 'this is Linux on aarch64; install a ROS 2 distribution' in said


def test_sourced_ros_of_another_python(machine):
    """ROS is sourced, but the first Python on the PATH is not its own."""
    machine.python('python3', no_rclpy=1)
    assert 'cannot import rclpy; name the Python' in sentence(machine.set_up(**SOURCED)[0])


def test_sourced_ros_without_apt_packages(machine):
    """ROS is sourced, but what rosdep would install is not there."""
    machine.python('python3', no_cv2=1)
    assert 'sudo apt install python3-matplotlib' in sentence(machine.set_up(**SOURCED)[0])


def test_newest_python_that_works(machine):
    """Later ones that cannot be run are passed over."""
    machine.program('python3.13', '#!/bin/sh\nexit 127\n')
    machine.python('python3.12', '3.12')
    machine.python('python3', '3.10')
    result, _ = machine.set_up()
    assert result.returncode == 0
    assert 'Python 3.12' in result.stdout


def test_second_run_does_nothing(machine):
    """Until a requirement, the interpreter or the sourced distribution changes."""
    machine.python('python3')
    result, calls = machine.set_up()
    assert result.returncode == 0, result.stderr
    assert calls[0] == '-m venv .venv'
    assert any('requirements/ros.txt' in call for call in calls)
    assert any('-e .' in call for call in calls)
    assert (machine.clone / '.venv/COLCON_IGNORE').exists()
    assert machine.set_up()[1] == []

    with open(machine.clone / 'requirements/base.txt', 'a') as file:
        file.write('more\n')
    calls = machine.set_up()[1]
    assert calls and not any('venv .venv' in call for call in calls)
    assert machine.set_up()[1] == []

    machine.python('python3.12', '3.12')
    assert '-m venv .venv' in machine.set_up(PYTHON='python3.12')[1]
    assert machine.set_up()[1] == []


def test_failed_download_is_tried_again(machine):
    """A set-up that broke off goes on, and says so in one sentence."""
    machine.python('python3')
    working = (machine.bin / 'python3').read_text()
    broken = working.replace('case "$*" in', 'case "$*" in\n    "-m pip"*) exit 1 ;;')
    machine.program('python3', broken)
    assert 'the same command goes on' in sentence(machine.set_up()[0])
    (machine.clone / '.venv/bin/python').write_text(working)
    result, calls = machine.set_up()
    assert result.returncode == 0
    assert any('pip install' in call for call in calls)


def test_sourced_ros_is_used(machine):
    """Its modules are seen, its numpy is kept, and no wheel of ROS comes near it."""
    machine.python('python3')
    result, calls = machine.set_up(**SOURCED)
    assert result.returncode == 0, result.stderr
    assert calls[0] == '-m venv --system-site-packages .venv'
    assert not any('ros.txt' in call for call in calls)
    venv = machine.clone / '.venv'
    assert (venv / 'numpy.txt').read_text() == 'numpy==1.26.4\n'
    constraints = (venv / 'constraints.txt').read_text().splitlines()
    assert 'torch==2.13.0' in constraints
    assert not any(line.startswith(('numpy=', 'ros-')) for line in constraints)
    assert machine.set_up(**SOURCED)[1] == []
    assert '-m venv .venv' in machine.set_up()[1]


def test_tf2_msgs_refuses_the_python_of_the_system():
    """The generator installs into a virtual environment and nowhere else."""
    python = Path(os.path.realpath(shutil.which('python3', path=os.defpath) or '/nowhere'))
    if not python.is_file():
        pytest.skip('this system has no Python of its own')
    result = subprocess.run([python, '-I', ROOT / 'tools/build_tf2_msgs.py'], text=True,
                            capture_output=True, env={'PATH': os.defpath})
    if 'installed already' in result.stdout:
        pytest.skip('the Python of this system has tf2_msgs')
    assert result.returncode != 0
    assert 'is not the Python of a virtual environment' in result.stderr
