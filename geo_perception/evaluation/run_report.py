# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""The report of a run: a page for each job, its way through time, and how it was measured."""

from dataclasses import replace

from geo_perception.evaluation.geometry_report import geometry_parts, geometry_timing
from geo_perception.evaluation.relocalization_report import (
    relocalization_part, relocalization_timing)
from geo_perception.evaluation.report import (
    Page, provenance_section, templates, title_of, write_pages)
from geo_perception.evaluation.scrubber import scrubber_section

_KEYS = {'What moves': 'motion'}


def write_run_report(path, run):
    """
    Write the report of a run, offline or live, just measured or read back.

    Parameters
    ----------
    path : str or Path
        The HTML file; its folder is made.
    run : Run
        What was measured.

    """
    parts = []
    if run.relocalization is not None:
        parts.append(relocalization_part(run))
    if run.geometry is not None:
        parts += geometry_parts(run)
    way = scrubber_section(run)
    timing = []
    if run.relocalization is not None:
        timing += relocalization_timing(run.relocalization)
    if run.geometry is not None:
        timing += geometry_timing(run.geometry)
    pages = [Page('overview', 'Overview', parts=parts)] if len(parts) > 1 else []
    for part in parts:
        page = Page(_KEYS.get(part.name, part.name.lower()), part.name, parts=[part],
                    sections=part.sections)
        # A single one speaks for the whole file.
        pages.append(page if len(parts) == 1 else
                     replace(page, verdict=part.verdict, origin=part.origin))
    if way:
        pages.insert(1, Page('way', 'Along the way', sections=[('', way)]))
    if timing:
        pages.append(Page('timing', 'Timing', sections=timing))
    pages.append(Page('run', 'Run', sections=_about(run)))
    alone = parts[0] if len(parts) == 1 else None
    write_pages(path, title_of(run.name), ' · '.join(part.name for part in parts).lower(), pages,
                *((alone.verdict, alone.origin) if alone else ()))


def _about(run):
    """Return the sections about what was measured, and how."""
    result = run.results[0]
    duration = 1e-9 * (result.stamps[-1] - result.stamps[0])
    facts = [('Recording', f'{run.name}, {len(result)} images over {duration:.1f} s')]
    facts += [('Run', mode) for mode in dict.fromkeys(result.mode for result in run.results)]
    if run.geometry is not None:
        facts.append(('Scale', run.geometry.scale))
    macros = templates('sections.html.j2').module
    cards = [(name, card) for name, card in (('Relocalizer', run.relocalizer),
                                             ('Geometry model', run.geometry_model)) if card]
    return [provenance_section(run.command, facts, run.machine),
            *((name if len(cards) > 1 else 'Model', macros.facts(card.rows))
              for name, card in cards)]
