# Copyright 2026 The geo_perception authors
# SPDX-License-Identifier: Apache-2.0

"""``geo_perception evaluate flow`` and ``motion``: measure what is said of pairs of images."""

from typing import List, Optional, Union

from geo_perception.commands.engine_options import engine_options


def flow(model: str, recordings: Union[str, List[str]], *, jobs: int = 1, baselines: bool = True,
         enlargement: str = 'bilinear', quantise: bool = False, **options):
    """
    Compare optical flow with true flow, by the protocol of KITTI 2015.

    Rigid flow (of a scene that stands still), the flow of the network before it is refined,
    OpenCV's DIS and Farneback, and no flow at all are measured beside it. As GeoNet's authors did
    it: --enlargement nearest --quantise true --refine false.
    For recordings ``newest`` is the flow of the later image, back, as the node publishes it.

    Parameters
    ----------
    model : str
        Model file (.safetensors) with a flow network.
    recordings : str or list of str
        KITTI 2015 (the folder above image_2), or any recording with true flow, with an optional
        slice: ``drive[0:100]``; several are measured each by itself, and are listed side by side.
    jobs : int
        How many recordings are measured at a time, each in a process of its own.
    baselines : bool
        Whether to measure OpenCV's methods.
    enlargement : str
        From the size of the network to that of the truth: ``bilinear`` or ``nearest``.
    quantise : bool
        Cut flow down to 1/64 pixels before.
    **options
        See `_present_flow`.

    Returns
    -------
    dict
        The metrics: pixels, percent, milliseconds. Of several recordings name to all of them.

    """
    given = dict(locals())
    from geo_perception.commands.many import evaluate_many, one_recording, options_of

    if (pairs := one_recording(recordings, jobs)) is None:
        return evaluate_many('flow', model, recordings, jobs, options_of(given))

    def tell(run):
        from geo_perception.errors import RecordingError

        summary = run.flow_summary()
        if not summary['images']:
            raise RecordingError(
                f'no pixel of {pairs} was scored: none of its {len(run.names)} pairs has both '
                f'true and predicted flow ({"; ".join(run.reasons) or "-"})')
        names = ['flow', *(name for name, value in summary.items()
                           if isinstance(value, dict) and 'epe_px' in value)]
        print(f"{summary['images']} of {len(run.names)} pairs, {summary['delay_p50_ms']:.0f} ms "
              'each')
        for name in names:
            values = summary if name == 'flow' else summary[name]
            hidden = f", visible {values['epe_px_noc']:.2f}" if 'epe_px_noc' in values else ''
            print(f"{name:>14}: end points off by {values['epe_px']:.2f} pixels{hidden}, "
                  f"{values['fl_percent']:.1f} % outliers")
        return summary

    return _present_flow('flow', tell, model, pairs, baselines,
                         {'enlargement': enlargement, 'quantise': quantise}, **options)


def motion(model: str, recordings: Union[str, List[str]], *, jobs: int = 1, **options):
    """
    Compare what is said to move by itself with what does.

    Each image is judged by the next one; ``newest`` is the judgement of the later image, which
    the node publishes.

    Parameters
    ----------
    model : str
        Model file (.safetensors) with a flow network.
    recordings : str or list of str
        A recording with true flow and masks of what moves, such as those of "geo_perception
        sample", with an optional slice: ``drive[0:100]``; several
        are measured each by itself, and are listed side by side.
    jobs : int
        How many recordings are measured at a time, each in a process of its own.
    **options
        See `_present_flow`.

    Returns
    -------
    dict
        The metrics: shares 0..1, milliseconds. Of several recordings name to all of them.

    """
    given = dict(locals())
    from geo_perception.commands.many import evaluate_many, one_recording, options_of

    if (recording := one_recording(recordings, jobs)) is None:
        return evaluate_many('motion', model, recordings, jobs, options_of(given))

    def tell(run):
        from geo_perception.errors import RecordingError

        summary = run.motion_summary()
        if summary['false_alarm_rate'] is None and summary['recall'] is None:
            raise RecordingError(
                f'nobody says what moves in {recording}: a bag needs a topic with motion and mask '
                'in its name (mono8) in the frame of the camera')
        print(f"{summary['pairs_processed']} of {len(run.names)} pairs, "
              f"{summary['delay_p50_ms']:.0f} ms each")
        for title, values in (('', summary), ('newest image: ', summary['newest'])):
            print(title + ', '.join(
                f'{name.replace("_", " ")} {values[name]:.3f}' for name in (
                    'iou', 'precision', 'recall', 'f', 'false_alarm_rate')
                if values[name] is not None))
        return summary

    return _present_flow('motion', tell, model, recording, False, {}, **options)


def _present_flow(job, tell, model, recording, baselines, enlargement, *,
                  json: Optional[str] = None, report: Optional[str] = None,
                  output: Optional[str] = None, refine: bool = True,
                  image_topic: Optional[str] = None, camera_info_topic: Optional[str] = None,
                  **engine):
    """
    Run a model over pairs of images and present the result; its options are those of both verbs.

    Parameters
    ----------
    job : str
        ``flow`` or ``motion``.
    tell : callable
        Takes the run, prints what came out and returns the metrics.
    model, recording : str
        As the user named them.
    baselines : bool
        Whether to measure OpenCV's methods.
    enlargement : dict
        Of `geo_perception.evaluation.flow.enlarge_flow`.
    json : str, optional
        Write the metrics to this file.
    report : str, optional
        Write report.html, metrics.json, frames.csv, and run.npz, of which "geo_perception report"
        makes the page again, into this folder: of recordings, and of the newest image, as the
        node publishes it; of several into a folder for each in it, with an index.html.
    output : str, optional
        Write one row per pair to this CSV file.
    refine : bool
        Whether flow is made sharp in the image of the camera.
    image_topic : str, optional
        Image topic of a bag; by default the only one that fits.
    camera_info_topic : str, optional
        Calibration topic of a bag; by default the one beside the images.
    **engine
        See `engine_options`.

    Returns
    -------
    dict
        The metrics.

    """
    from geo_perception.commands.outcome import require_writable, write_outcome
    from geo_perception.datasets.flow_pairs import open_flow_pairs, RecordedPairs
    from geo_perception.errors import ConfigurationError
    from geo_perception.evaluation.flow_run import evaluate_flow
    from geo_perception.evaluation.training_overlap import refuse_training_data
    from geo_perception.inference.geometry import GeometryPipeline

    require_writable(json, output, folder=report)
    pipeline = GeometryPipeline.load(model, refine_flow=refine, **engine_options(**engine))
    pairs = open_flow_pairs(recording, image_topic, camera_info_topic)
    if isinstance(pairs, RecordedPairs):
        refuse_training_data(pipeline.model, recording, pairs.sequence)
    elif report:
        raise ConfigurationError(f'--report is of recordings, and the pairs of {recording} do not '
                                 'follow each other; --json and --output hold all of them')
    run = evaluate_flow(pipeline, pairs, baselines, **enlargement)
    summary = tell(run)
    write_outcome(json, {job: summary})
    if output:
        run.to_csv(output)
        print(f'wrote {output}')
    if report:
        from geo_perception.commands.geometry_evaluation import report_geometry

        # The page is about the newest images, and so are its figures for machines.
        others = {'pairs': {key: value for key, value in summary.items() if key != 'newest'}}
        report_geometry(run.recording, pipeline.model, recording, job, others, report)
    return summary
