"""The control groups (cgroups) of this process, with which Linux limits a container, a service or a batch job."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path('/sys/fs/cgroup')
_OWN_GROUPS = Path('/proc/self/cgroup')


def control_groups(controller: str) -> list[Path]:
    """The folders of this process's groups for a controller ('cpu', 'memory'), from the innermost to the outermost.

    The limits of all these groups apply. Both versions of control groups are supported. The list is empty if there are
    none, as on systems other than Linux.
    """
    try:
        lines = _OWN_GROUPS.read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, controllers, inside = line.split(':', 2)
        if controller in controllers.split(','):  # version 1
            mount = next((_ROOT / name for name in (controllers, controller) if (_ROOT / name).is_dir()), None)
        else:
            mount = None if controllers else _ROOT
        if mount is not None:
            # a container may see its group's path on the host, which does not exist in the container
            place = mount / inside.strip('/')
            found += [place, *(folder for folder in place.parents if folder.is_relative_to(mount))]
    return [folder for folder in found if folder.is_dir()]
