# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""What the command line says to options it does not understand."""

from difflib import get_close_matches
import re

_KEY = r'(?:Parser key|Argument) "(?P<key>[^"]+)": '
_WRONG_TYPE = re.compile(
    _KEY + r'(?:Expected an? (?P<type>.+)\. Got value:'
    r'|Does not validate .* Subtypes: \[(?P<types>.+?)\] Errors:.* Given value:) (?P<value>.*)')
_OUT_OF_RANGE = re.compile(
    _KEY + r'Not of type \w+: (?P<value>.*) does not conform to restriction v(?P<range>.*)')
_UNKNOWN = re.compile(r'unrecognized arguments: (?P<option>[^\s=]+)'
                      r"|Group '(?P<group>[\w.]+)' does not accept option '(?P<name>[\w.]+)'")
_REQUIRED = re.compile(r'the following arguments are required: (?P<keys>[\w.]+(?:, [\w.]+)*)$')
_NO_SUCH_VERB = re.compile(r"invalid choice: '(?P<verb>[^']*)' \(choose from (?P<verbs>[^)]*)\)")
_NO_VERB = re.compile(r'expected "(?:(?P<verb>[\w-]+)\.)?subcommand" to be one of '
                      r'\{(?P<verbs>[^}]*)\}')
_TYPES = {'int': 'a whole number', 'float': 'a number', 'str': 'text', 'bool': 'true or false',
          'NoneType': 'null'}


class OneSentence:
    """Makes a parser say what is wrong in one sentence, not after a list of all its options."""

    def error(self, message, ex=None):
        """
        End the program with status 2.

        Parameters
        ----------
        message : str
            jsonargparse's own.
        ex : Exception, optional
            Knows the parser of the verb that was chosen.

        """
        parser = getattr(ex, 'subcommand_parser', None) or self
        program = parser.prog.replace(' [options]', '')
        words = [action.dest for action in parser._actions if not action.option_strings]
        sentence = explain(message, parser._option_string_actions, words)
        unsaid = _NO_VERB.search(message)
        if unsaid and unsaid['verb'] and ' ' not in program:
            program = f"{program} {unsaid['verb']}"
        found = _REQUIRED.search(sentence)
        if found and ' ' not in program:
            # Of the whole program, whose keys begin with the words of the verb.
            verbs, names = zip(*(key.rpartition('.')[::2] for key in found['keys'].split(', ')))
            program = ' '.join([program, *verbs[0].split('.')]).rstrip()
            sentence = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
        self.exit(2, f'error: {sentence}; see {program} --help\n')


def explain(message, options, words=()):
    """
    Return what is wrong with the arguments, on one line.

    Parameters
    ----------
    message : str
        jsonargparse's own.
    options : iterable of str
        Those that there are, with their dashes.
    words : iterable of str
        Names of the arguments that have no dashes.

    Returns
    -------
    str
        Without a full stop.

    """
    text = ' '.join(message.split())
    if found := _UNKNOWN.search(text):
        option = found['option'] or f"--{found['group']}.{found['name']}"
        if option.lstrip('-') in words:
            return f'{option.lstrip("-")} is given as a word, without {option}'
        near = get_close_matches(option, set(options) - {'-h', '--help'}, 1)
        return f'there is no option {option}' + (f' (did you mean {near[0]}?)' if near else '')
    if found := _NO_SUCH_VERB.search(text):
        verbs = found['verbs'].replace("'", '').split(', ')
        near = get_close_matches(found['verb'], verbs, 1, 0.5)
        return (f"there is no '{found['verb']}'" + (f' (did you mean {near[0]}?)' if near else '')
                + f"; choose from {', '.join(verbs)}")
    if found := _NO_VERB.search(text):
        verbs = found['verbs'].replace(', ...', '').split(',')
        return f"say what to {found['verb'] or 'do'}: {', '.join(verbs)}" + (
            ', …' if '...' in found['verbs'] else '')
    found = _WRONG_TYPE.search(text) or _OUT_OF_RANGE.search(text)
    if not found:
        return re.sub(_KEY, r'--\g<key>: ', text).rstrip('.')
    parts = found.groupdict()
    key = f"--{parts['key']}" if f"--{parts['key']}" in options else parts['key']
    right = _in_words(parts['type'] or parts['types']) if 'type' in parts else (
        parts['range'].replace('>=', 'at least ').replace('>', 'above '))
    return f"{key} is {parts['value']}, but must be {right}"


def _in_words(types):
    """Return Python's names of types as a person would say them."""
    types = re.sub(r"<class '([\w.]+)'>", lambda found: _TYPES.get(found[1], found[1]), types)
    types = re.sub(r'(?:typing\.)?Literal\[(.*?)\]', r'one of \1', types)
    return types if 'one of' in types else types.replace(', ', ' or ')
