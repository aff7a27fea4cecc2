# The toolbox has no types. This stub lists what pyright needs of this module; other modules are read from their source.
from collections.abc import Callable, Iterator, KeysView
from typing import Any, TypeVar, overload

_Object = TypeVar('_Object', bound=Callable[..., Any])

class Registry:
    _name: str
    _obj_map: dict[str, Any]
    def __init__(self, name: str) -> None: ...
    @overload
    def register(self, obj: None = None, suffix: str | None = None) -> Callable[[_Object], _Object]: ...
    @overload
    def register(self, obj: Callable[..., Any], suffix: str | None = None) -> None: ...
    def get(self, name: str, suffix: str = 'basicsr') -> Any: ...
    def keys(self) -> KeysView[str]: ...
    def __contains__(self, name: object) -> bool: ...
    def __iter__(self) -> Iterator[tuple[str, Any]]: ...

DATASET_REGISTRY: Registry
ARCH_REGISTRY: Registry
MODEL_REGISTRY: Registry
LOSS_REGISTRY: Registry
METRIC_REGISTRY: Registry
