# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the documents say is what the code does: tables, commands, examples and links."""

import ast
import contextlib
from dataclasses import fields
import functools
import importlib.util
import inspect
import io
import re
import shlex
from types import ModuleType

import pytest
from rclpy.parameter import Parameter
from source_tree import ROOT
import yaml

from geo_perception import cli, commands
from geo_perception.nodes.geometry import GeometryParameters
from geo_perception.nodes.relocalize import RelocalizeParameters
from geo_perception.nodes.stereo_depth import StereoDepthParameters
from geo_perception.ros.parameters import describe_parameters, read_overrides

DOCUMENTS = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
NODES = {'relocalize': RelocalizeParameters, 'geometry': GeometryParameters,
         'stereo_depth': StereoDepthParameters}


def blocks(*languages):
    """Return (document, text) of the code blocks in some languages."""
    return [(path.name, block) for path in DOCUMENTS for language, block in re.findall(
        r'^```(\w*)\n(.*?)^```', path.read_text(), re.MULTILINE | re.DOTALL)
        if language in languages]


def command_lines():
    """Return (document, words) of every shell command in the documents, each once."""
    found = {}
    for name, block in blocks('', 'sh', 'bash'):
        for line in block.replace('\\\n', ' ').splitlines():
            for part in re.split(r' && ', line):
                words = shlex.split(part, comments=True)
                if words:
                    found.setdefault(tuple(words), name)
    return [(name, list(words)) for words, name in found.items()]


COMMANDS = command_lines()


def ours(words):
    """Return the arguments of geo_perception in a command, or None."""
    for program in (['ros2', 'run', 'geo_perception', 'geo_perception'], ['geo_perception']):
        if words[:len(program)] == program:
            return words[len(program):]
    if words[0] == 'torchrun':
        return words[words.index('geo_perception.cli') + 1:]
    return None


OURS = [(name, ours(words)) for name, words in COMMANDS if ours(words) is not None]
TRAINING = [entry for entry in OURS if entry[1][:2] == ['train', 'relocalization']]
# All options that are mentioned in passing, at once.
TRAINING.append(('training.md', ['train', 'relocalization', '--data.train', 'office', *shlex.split(
    ' '.join(re.findall(r'`(--(?:model|data|trainer)\.[^` ]+ [^`]+)`',
                        (ROOT / 'docs/training.md').read_text())))]))


@pytest.fixture
def unrun(monkeypatch):
    """Replace what the verbs do by nothing, their signatures left as they are."""
    usage()   # imports them all
    for module in vars(commands).values():
        if isinstance(module, ModuleType):
            for name, function in inspect.getmembers(module, inspect.isfunction):
                if function.__module__ == module.__name__ and not name.startswith('_'):
                    nothing = functools.wraps(function)(lambda *values, **options: None)
                    monkeypatch.setattr(module, name, nothing)


def usage():
    """Return what ``geo_perception --help`` says."""
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        cli.main(['--help'])
    return text.getvalue()


def section(file, title):
    """Return what stands in a document under a heading of the second level."""
    return (ROOT / file).read_text().split(f'\n## {title}\n')[1].split('\n## ')[0]


@pytest.mark.parametrize('node', NODES)
def test_the_parameter_table_is_that_of_the_dataclass(node):
    """On a mismatch the message holds the right table."""
    expected = '| parameter | type | default | unit | range | |\n' + 6 * '| --- ' + '|\n'
    for row in describe_parameters(NODES[node]):
        default = yaml.safe_dump(row['default']).splitlines()[0]
        text = row['description'].replace('<', r'\<').replace('|', r'\|')
        text += ' Counts at start only.' if row['read_only'] else ''
        span = row['range'].replace(' | ', ', ')
        expected += (f"| `{row['name']}` | {row['type']} | `{default}` | {row['unit']} | {span} "
                     f'| {text} |\n')
    text = section(f'docs/{node}.md', 'Parameters')
    table = text.split(f'<!-- parameters:{node} -->\n')[1].split('<!-- end -->')[0]
    assert table == expected, f'put between the markers:\n{expected}'


@pytest.mark.parametrize('node', NODES)
def test_every_launch_argument_is_in_its_table(node):
    """And nothing else is."""
    assert sorted(first_column(section(f'docs/{node}.md', 'Launch arguments'))) == sorted(
        launch_arguments(f'{node}.launch.py'))


@pytest.mark.parametrize('file', ['perception.launch.py', 'replay.launch.py'])
def test_every_argument_of_the_joint_launch_files_is_in_its_table(file):
    """And nothing else is."""
    text = section('docs/launch_files.md', f'Arguments of `{file}`')
    assert sorted(first_column(text)) == sorted(launch_arguments(file))


@pytest.mark.parametrize('node', NODES)
def test_every_topic_of_a_node_is_in_its_table(node):
    """And the README, which has some of them, knows no other."""
    code = (ROOT / f'geo_perception/nodes/{node}.py').read_text()
    made = set(re.findall(r"(?:add_output|create_service)\(\s*\w+, f?'(~/[\w/]+)", code))
    table, short = (set(first_column(text, r'~/[\w/]+')) for text in (
        section(f'docs/{node}.md', 'Topics'),
        section('README.md', 'The nodes in brief').split(f'### `{node}`')[1].split('\n### ')[0]))
    assert made and made <= table
    assert short and short <= table


def first_column(text, name=r'\w+'):
    """Return the names in the first column of a table."""
    cells = re.findall(r'^\| (`.*?) \|', text, re.MULTILINE)
    return re.findall(f'`({name})`', ' '.join(cells))


def launch_arguments(file):
    """Return the names of the arguments of a launch file; launch itself has no wheel."""
    text = (ROOT / 'launch' / file).read_text()
    if 'node_description' in text:
        text += (ROOT / 'geo_perception' / 'ros' / 'launching.py').read_text()
    return [*re.findall(r"DeclareLaunchArgument\(\s*'(\w+)'", text),
            *re.findall(r"^    '(\w+)': ['(]", text, re.MULTILINE)]


@pytest.mark.parametrize('node, least', [
    ('relocalize', 30), ('geometry', 10), ('stereo_depth', 5)])
def test_diagnostics_are_sentences_of_the_code(node, least):
    """Each part between the dots is one of its strings."""
    strings = {node.value for folder in ('ros', 'nodes', 'inference')
               for path in (ROOT / 'geo_perception' / folder).glob('*.py')
               for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    text = section(f'docs/{node}.md', 'Diagnostics')
    rows = re.findall(r'^\| (?:OK|WARN|ERROR) \| `(.*?)` \|', text, re.MULTILINE)
    rows += re.findall(r'^\| `([^`]* [^`]*)` \| `no result: ', text, re.MULTILINE)
    assert len(rows) > least
    for row in rows:
        for part in row.rstrip('.').split('…'):
            assert any(part.rstrip('.') in string for string in strings), f'{part!r} in {row!r}'


@pytest.mark.parametrize(
    'name, arguments', [entry for entry in OURS if entry not in TRAINING],
    ids=lambda value: ' '.join(value) if isinstance(value, list) else value)
def test_commands_are_understood(unrun, monkeypatch, capsys, name, arguments):
    """By the real parser, with all that it requires."""
    monkeypatch.chdir(ROOT)
    try:
        code = cli.main(arguments)
    except SystemExit as end:
        code = end.code
    assert not code, f'{name}: {capsys.readouterr().err}'


@pytest.mark.parametrize(
    'name, arguments', TRAINING,
    ids=lambda value: ' '.join(value[2:]) if isinstance(value, list) else value)
def test_training_commands_are_understood(monkeypatch, capsys, name, arguments):
    """By Lightning's parser, with the recipe; it does not look for what is required then."""
    pytest.importorskip('lightning')
    monkeypatch.chdir(ROOT)
    arguments = [value.replace('{{steps}}', '1') for value in arguments]
    assert '--data.train' in arguments
    with pytest.raises(SystemExit) as end:
        cli.main([*arguments, '--print_config'])
    assert not end.value.code, f'{name}: {capsys.readouterr().err}'


def test_other_commands_name_what_there_is():
    """Targets of make, executables, launch files and their arguments, parameters, files."""
    targets = re.findall(r'^(\w+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    scripts = re.findall(r"'(\w+) = ", (ROOT / 'setup.py').read_text())
    parameters = {field.name for node in NODES.values() for field in fields(node)}
    inline = [(path.name, shlex.split(text)) for path in DOCUMENTS for text in re.findall(
        r'`((?:make|ros2|python) [^`…<$]*)`', path.read_text())]
    for name, words in [*COMMANDS, *inline]:
        where = f'{name}: {shlex.join(words)}'
        for word in words:
            if re.match(r'(config|tools|launch)/', word):
                assert (ROOT / word).exists(), where
        if words[0] == 'make':
            assert {word for word in words[1:] if '=' not in word} <= set(targets), where
        if words[:3] == ['ros2', 'launch', 'geo_perception']:
            assert (ROOT / 'launch' / words[3]).is_file(), where
            given = {word.partition(':=')[0] for word in words[4:]}
            assert given <= set(launch_arguments(words[3])), where
        if words[:3] == ['ros2', 'run', 'geo_perception']:
            assert words[3] in scripts, where
        for flag, value in zip(words, words[1:]):
            if flag == '-p':
                assert value.partition(':=')[0] in parameters, where
            if flag == '-m' and value.startswith('geo_perception'):
                assert importlib.util.find_spec(value), where


def test_every_verb_is_in_its_table():
    """As ``geo_perception --help`` lists them; the README has those that are used most."""
    verbs = set(re.search(r'\{([\w,]+)\}', usage()).group(1).split(','))
    table, short = (set(re.findall(r'^\| `(\w+)', text, re.MULTILINE)) for text in (
        (ROOT / 'docs/command_line.md').read_text(), section('README.md', 'Command line')))
    assert table == verbs
    assert short and short < verbs


@pytest.mark.parametrize('name, block', blocks('yaml'), ids=lambda text: text.splitlines()[0])
def test_yaml_examples_fit_the_node(name, block):
    """Those for our node have known parameters of the right type and range."""
    for node, content in yaml.safe_load(block).items():
        assert list(content) == ['ros__parameters'], name
        if node in ('/**', *NODES):
            # As perception.launch.py, which gives the base in any case.
            given = {'base_frame': 'base_link', **content['ros__parameters']}
            read_overrides(NODES.get(node, RelocalizeParameters), {
                key: Parameter(key, value=value) for key, value in given.items()})
        for key, value in content['ros__parameters'].items():
            if isinstance(value, list):
                assert len(value) == (225 if key.endswith('covariance') else 15), key


@pytest.mark.parametrize('name, block', blocks('python'), ids=lambda text: text.splitlines()[0])
def test_python_examples_compile(name, block):
    """And import only what there is."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), name


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    """Relative ones, with their anchors."""
    for target in re.findall(r'\]\(([^)\s]+)\)', path.read_text()):
        if re.match(r'\w+://|mailto:', target):
            continue
        file, _, anchor = target.partition('#')
        linked = path.parent / file if file else path
        assert linked.exists(), f'{path.name} links to {target}'
        if anchor:
            headings = re.findall(r'^#+ (.*)$', linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r'[^\w\- ]', '', text.lower()).replace(' ', '-') for text in headings]
            assert anchor in slugs, f'{path.name} links to {target}'


@pytest.mark.parametrize('path', DOCUMENTS, ids=lambda path: path.name)
def test_nothing_is_left_to_fill_in(path):
    """A number that nobody measured is not published."""
    assert re.findall(r'\{\{.*?\}\}', path.read_text()) == []
