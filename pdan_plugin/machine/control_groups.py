"""The control groups (cgroups) of this process, with which Linux limits a container, a service or a batch job."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

_ROOT = Path('/sys/fs/cgroup')
_OWN_GROUPS = Path('/proc/self/cgroup')


def control_groups(controller: str) -> list[Path]:
    """The folders of this process's groups for a controller ('cpu', 'memory'), from the innermost to the outermost.

    The limits of all these groups apply. Both versions of control groups are supported. The list is empty if there are
    none, as on systems other than Linux.
    """
    try:
        text = _OWN_GROUPS.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return []
    return list(_folders(text, controller, _ROOT))


@lru_cache(maxsize=8)  # asked for every picture
def _folders(own_groups: str, controller: str, root: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for line in own_groups.splitlines():
        if line.count(':') < 2:
            continue  # not of the system's form, as in the imitations that some sandboxes have
        _, controllers, inside = line.split(':', 2)
        if controller in controllers.split(','):  # version 1
            mount = next((root / name for name in (controllers, controller) if (root / name).is_dir()), None)
        else:
            mount = None if controllers else root
        if mount is not None:
            # a container may see its group's path on the host, which does not exist in the container
            place = mount / inside.strip('/')
            found += [place, *(folder for folder in place.parents if folder.is_relative_to(mount))]
    return tuple(folder for folder in found if folder.is_dir())
