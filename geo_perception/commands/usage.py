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
        sentence = explain(message, parser._option_string_actions)
        found = _REQUIRED.search(sentence)
        if found and ' ' not in program:
            # Of the whole program, whose keys begin with the words of the verb.
            verbs, names = zip(*(key.rpartition('.')[::2] for key in found['keys'].split(', ')))
            program = ' '.join([program, *verbs[0].split('.')]).rstrip()
            sentence = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
        self.exit(2, f'error: {sentence}; see {program} --help\n')


def explain(message, options):
    """
    Return what is wrong with the arguments, on one line.

    Parameters
    ----------
    message : str
        jsonargparse's own.
    options : iterable of str
        Those that there are, with their dashes.

    Returns
    -------
    str
        Without a full stop.

    """
    text = ' '.join(message.split())
    if found := _UNKNOWN.search(text):
        option = found['option'] or f"--{found['group']}.{found['name']}"
        near = get_close_matches(option, options, 1)
        return f'there is no option {option}' + (f' (did you mean {near[0]}?)' if near else '')
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
