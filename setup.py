"""The package is described in pyproject.toml. This file puts the folder `options`, which lies beside it, into it."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

SOURCE, TARGET = Path('options'), Path('pdan_plugin/options')
# In the package the schema lies nearer: the line for editors names it relative to the option file.
_SCHEMA_LINE = re.compile(r'\A(# yaml-language-server: \$schema=[./]*/)pdan_plugin/')


class BuildOptions(Command):
    """Copies the option files into the built package. An editable install reads them where they are."""

    description = 'copy the option files into the package'
    user_options = []  # noqa: RUF012 (as setuptools declares it)

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def run(self) -> None:
        if self.editable_mode:
            return
        for target, source in self.get_output_mapping().items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            text = Path(source).read_text(encoding='utf-8')
            text = _SCHEMA_LINE.sub(r'\1', text, count=1)
            Path(target).write_text(text, encoding='utf-8')

    def get_source_files(self) -> list[str]:
        """For the sdist."""
        return sorted(path.as_posix() for path in SOURCE.rglob('*') if path.is_file())

    def get_output_mapping(self) -> dict[str, str]:
        """Built file -> source."""
        folder = Path(self.build_lib or '.') / TARGET
        return {str(folder / Path(source).relative_to(SOURCE)): source for source in self.get_source_files()}

    def get_outputs(self) -> list[str]:
        return list(self.get_output_mapping())


class Build(build):
    sub_commands = [*build.sub_commands, ('build_options', None)]  # noqa: RUF012


setup(cmdclass={'build': Build, 'build_options': BuildOptions})
