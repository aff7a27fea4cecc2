"""Builds the network of an option section."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.unset_keys import leave_unset_keywords_out
from pdan_plugin.option_schema.whole_numbers import with_whole_numbers


def build_network(values: Mapping[str, Any], key: str) -> nn.Module:
    """The network of an option section ``{type: NAME, ...}``, on the CPU. Null keywords count as not given.

    Raises:
        RequestError: The constructor rejects its arguments.
    """
    target: Any = find_registered(ARCH_REGISTRY, values['type'])
    keywords = copy.deepcopy(dict(values))
    leave_unset_keywords_out(keywords, ARCH_REGISTRY)
    del keywords['type']
    try:
        return target(**with_whole_numbers(target, keywords))
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f'{key}: {values["type"]} cannot be built: {type(error).__name__}: {error}') from error
