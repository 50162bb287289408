# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""
What importing published weights takes, and how far the networks are from the originals.

Files of the published sizes are made, their weights following from the names of the variables;
``geo_perception import`` runs in a process of its own for each; what the model files compute is
compared with stored numbers, most of which come from TensorFlow's own layers. With ``--keep``
files and models stay, to be tried by hand.
"""

from contextlib import ExitStack
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from harness import argument_parser, Results
import numpy as np

# As the processes that are measured report it.
_IMPORT = """
import json, re, time
from geo_perception.commands import import_weights
import geo_perception.importers.{module}, geo_perception.importers.sources

def memory(name):
    # Not getrusage: that begins with what the parent has.
    return int(re.search(name + r':\\s+(\\d+)', open('/proc/self/status').read())[1]) / 1e3

before = memory('VmRSS')
summary = import_weights.{verb}({sources!r}, output={output!r})
summary['cpu'] = time.process_time()
summary['peak_mb'] = 1.024 * (memory('VmHWM') - before)
print('\\n' + json.dumps(summary))
"""
SLOWEST_S, LARGEST_MEMORY, LARGEST_DIFFERENCE = 30.0, 3.0, 1e-3
HEADER = ('network', 'parameters', 'variables taken', 'ignored', 'largest difference', 'MB',
          'process, s', 'of it CPU, s', 'memory / weights')


def main():
    """Run the benchmark."""
    parser = argument_parser(__doc__, rounds=1)
    parser.add_argument('--keep', metavar='FOLDER', help='keep files and models here')
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / 'test'))
    from named_weights import arrays, FILES, largest_difference

    from geo_perception.model_file import load_model_file

    results = Results(arguments)
    rows = []
    with ExitStack() as stack:
        folder = Path(arguments.keep or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            variables = arrays(name)
            paths = _write(folder, name, variables)
            parameters = sum(array.size for array in variables.values())
            del variables
            cpu, whole, peaks = [], [], []
            for _ in range(arguments.rounds):
                started = time.perf_counter()
                summary = _run(name, paths, folder)
                whole.append(time.perf_counter() - started)
                cpu.append(summary['cpu'])
                peaks.append(summary['peak_mb'])
            model = load_model_file(summary['output'])
            off = largest_difference(name, model)
            memory = np.median(peaks) / (4e-6 * parameters)
            rows.append((name, f'{parameters:,}', *(str(sum(map(len, summary[kind].values())))
                                                    for kind in ('taken', 'ignored')),
                         f'{off:.1e}', f"{summary['megabytes']:.1f}",
                         f'{np.median(whole):.1f}', f'{np.median(cpu):.1f}', f'{memory:.2f}'))
            results.note(name, f"{summary['megabytes']:.1f} MB, {parameters:,} parameters")
            results.target(f'{name}: difference / spread', off, LARGEST_DIFFERENCE)
            results.target(f'{name}: import, s', np.median(whole), SLOWEST_S)
            results.target(f'{name}: memory / weights', memory, LARGEST_MEMORY)
    print()
    for row in (HEADER, ('---',) * len(HEADER), *rows):
        print(f'| {" | ".join(row)} |')
    results.write()


def _write(folder, name, variables):
    """Write a file as people have it; return its path, or those of the port."""
    from geo_perception.importers.crc32c import crc32c
    from named_weights import FILES, parts
    from tf_checkpoint_writer import write_checkpoint
    import torch

    stem = folder / name.replace(', ', '_').replace(' ', '_')
    kind = FILES[name][1]
    if kind == 'npy':
        layers = {}
        for key, array in variables.items():
            layer, part = key.split('/')
            layers.setdefault(layer, {})[part] = array
        np.save(f'{stem}.npy', layers, allow_pickle=True)
        return [f'{stem}.npy']
    if kind == 'torch':
        paths = [f'{stem}_{part}.pth.tar' for part in ('depth', 'pose')]
        for path, part in zip(paths, parts(name, variables)):
            torch.save({'state_dict': {key: torch.from_numpy(array)
                                       for key, array in part.items()}}, path)
        return paths
    # Of training, which is to be left out.
    others = {'global_step': np.array(7, np.int64)}
    return [write_checkpoint(str(stem), {**variables, **others}, crc32c=crc32c)]


def _run(name, paths, folder):
    """Import in a process of its own; return its summary."""
    verb = name.split(',')[0].replace('-', '_')
    one = verb in ('posenet', 'monodepth')
    code = _IMPORT.format(module=verb, verb=verb, sources=paths[0] if one else paths,
                          output=f'{folder}/{name.replace(", ", "_").replace(" ", "_")}'
                                 '.safetensors')
    output = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True,
                            text=True).stdout
    return json.loads(output.splitlines()[-1])


if __name__ == '__main__':
    main()
