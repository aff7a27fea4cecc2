"""What lies where `basicsr export` is to write: an earlier export may be replaced, another file may not."""

from __future__ import annotations

import json
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.weights.trained_network import NetworkRecord
from pdan_plugin.weights.weights_file import read_metadata


def note_on_replacing(output: Path, record: NetworkRecord) -> str | None:
    """Decides whether an export of ``record`` may replace ``output``, which may be missing.

    Returns:
        None for a missing or empty file, and for an earlier export of this network; else the message for the user about
        the export of another network that is replaced.

    Raises:
        RequestError: The file is no export.
    """
    if not output.exists() or output.stat().st_size == 0:
        return None
    facts = _facts(output)
    earlier = _options(facts.get('network_g'))
    if earlier is None or 'pdan_plugin' not in facts:
        raise RequestError(
            f'{output} exists already and was not written by basicsr export. Give another -o, or --overwrite.'
        )
    if (earlier.get('type'), facts.get('name')) == (record.options['type'], record.name):
        return None
    there, now = (_in_words(*each) for each in ((earlier, facts.get('name')), (record.options, record.name)))
    return (
        f'{output}: the export of {there} is replaced by that of {now}. A later version will replace the export of '
        'another network only with --overwrite.'
    )


def _facts(output: Path) -> dict[str, str]:
    """The metadata of a file; empty if it cannot be read as what its name says."""
    try:
        if output.suffix.lower() == '.safetensors':
            return read_metadata(output)
        import onnx

        return {each.key: each.value for each in onnx.load(str(output), load_external_data=False).metadata_props}
    except Exception:  # of protobuf or the file system; what cannot be read is refused, and stays
        return {}


def _options(text: str | None) -> dict[str, object] | None:
    try:
        found = json.loads(text or '')
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _in_words(options: dict[str, object], name: str | None) -> str:
    return f'{options.get("type")} ({name or "of no name"})'
