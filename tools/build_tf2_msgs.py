# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
Generate ``tf2_msgs`` into the virtual environment that runs this file.

The ROS 2 wheels lack this one package. Its only message that matters here is a single line, and
cmake with the rosidl wheels of ``requirements/build.txt`` generates the same type from it as the
distribution ships, on the wire too. Needs cmake, a C and a C++ compiler and Python's headers.
Nothing is done when ``tf2_msgs`` is importable already.

Usage: ``.venv/bin/python tools/build_tf2_msgs.py``
"""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

TF_MESSAGE = 'geometry_msgs/TransformStamped[] transforms\n'

PACKAGE_XML = """\
<?xml version="1.0"?>
<package format="3">
  <name>tf2_msgs</name>
  <version>0.36.0</version>
  <description>Messages of tf2, generated from their interface text</description>
  <maintainer email="authors@geo-perception.example">The geo_perception authors</maintainer>
  <license>BSD-3-Clause</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
  <depend>geometry_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

CMAKE_LISTS = """\
cmake_minimum_required(VERSION 3.14)
project(tf2_msgs)
find_package(ament_cmake REQUIRED)
find_package(geometry_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(tf2_msgs "msg/TFMessage.msg" DEPENDENCIES geometry_msgs)
ament_export_dependencies(rosidl_default_runtime)
ament_package()
"""


def main():
    """Build, install and import ``tf2_msgs``; exit with one sentence when that is impossible."""
    if importable():
        print('tf2_msgs is installed already.')
        return
    missing = missing_prerequisite()
    if missing:
        sys.exit(f'tf2_msgs was not built: {missing}.')
    correct_wheel_paths(Path(sys.prefix))
    with tempfile.TemporaryDirectory(prefix='tf2_msgs_') as folder:
        build(Path(folder))
    if not importable():
        sys.exit('tf2_msgs was built and installed, but Python cannot import it.')
    print(f'tf2_msgs is installed in {sys.prefix}.')


def importable():
    """Say whether a new interpreter can load the message with its compiled type support."""
    code = 'from tf2_msgs.msg import TFMessage; TFMessage.__class__.__import_type_support__(); ' \
        'raise SystemExit(TFMessage.__class__._TYPE_SUPPORT is None)'
    return subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0


def missing_prerequisite():
    """Return what is missing and how to get it, or None."""
    if sys.prefix == sys.base_prefix:
        return f'{sys.executable} is not the Python of a virtual environment'
    if not shutil.which('cmake'):
        return 'cmake is not on the PATH (apt install cmake)'
    for compiler, variable in (('cc', 'CC'), ('c++', 'CXX')):
        if not shutil.which(os.environ.get(variable, compiler)):
            return f'no compiler {compiler} is on the PATH (apt install build-essential)'
    if not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        version = f'{sys.version_info.major}.{sys.version_info.minor}'
        return f'the headers of Python are not installed (apt install python{version}-dev)'
    if not (Path(sys.prefix) / 'share/rosidl_default_generators').is_dir():
        return 'its build requirements are not installed (pip install -r requirements/build.txt)'
    return None


def correct_wheel_paths(prefix):
    """Point the wheels' cmake files, which name their builder's Python, at this Python."""
    import numpy
    replacements = (
        (r'/opt/python/cp\d+-cp\d+/include/python3\.\d+(?=[;"\s)])',
         sysconfig.get_path('include')),
        (r'/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include',
         numpy.get_include()),
    )
    for path in prefix.glob('share/*/cmake/*.cmake'):
        text = corrected = path.read_text()
        for pattern, replacement in replacements:
            corrected = re.sub(pattern, lambda _, new=replacement: new, corrected)
        if corrected != text:
            path.write_text(corrected)


def build(folder):
    """Generate, compile and install the package from ``folder`` into this environment."""
    (folder / 'msg').mkdir()
    (folder / 'msg/TFMessage.msg').write_text(TF_MESSAGE)
    (folder / 'package.xml').write_text(PACKAGE_XML)
    (folder / 'CMakeLists.txt').write_text(CMAKE_LISTS)
    environment = dict(os.environ, AMENT_PREFIX_PATH=sys.prefix, CMAKE_PREFIX_PATH=sys.prefix)
    commands = (
        ['cmake', '-S', '.', '-B', 'build', f'-DCMAKE_INSTALL_PREFIX={sys.prefix}',
         '-DBUILD_TESTING=OFF', '-DCMAKE_BUILD_TYPE=Release',
         f'-DPython3_EXECUTABLE={sys.executable}'],
        ['cmake', '--build', 'build', '--parallel', str(os.cpu_count() or 1)],
        ['cmake', '--install', 'build'],
    )
    for command in commands:
        result = subprocess.run(command, cwd=folder, env=environment, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            print(result.stdout[-4000:], file=sys.stderr)
            sys.exit(f'tf2_msgs was not built: "{" ".join(command[:3])}" failed, see above.')


if __name__ == '__main__':
    main()
