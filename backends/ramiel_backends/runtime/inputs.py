"""Whether what a caller hands in is what the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from .dtypes import CODES, NATIVE, STRING, TABLE, code_of
from .errors import InputError
from .manifest import Spec


class Inputs:
    """The inputs that a model takes."""

    def __init__(self, specs: Sequence[Spec]) -> None:
        self._specs = specs
        names = ", ".join(repr(spec.name) for spec in specs)
        self._known = f"the model takes {names or 'no inputs'}"
        self._exact = {
            spec.name: (NATIVE[spec.dtype], spec.shape) for spec in specs if spec.dtype in NATIVE
        }
        """Types and shapes that need no second look."""

    def check(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """These inputs as numpy arrays, lists and None; InputError where they do not fit the model.

        A symbolic dimension has one size wherever it occurs.
        """
        if not isinstance(values, Mapping):
            raise InputError(
                f"inputs must be a dict of arrays by name, not {type(values).__name__}"
            )
        checked, exact = {}, self._exact
        symbols: dict[str, tuple[int, str]] = {}
        for spec in self._specs:
            name = spec.name
            if name not in values:
                self._refuse_names(values)
            value = values[name]
            if name in exact and type(value) is np.ndarray:
                dtype, shape = exact[name]
                if value.dtype == dtype and value.shape == shape:
                    checked[name] = value
                    continue
            checked[name] = _check(spec, value, name, symbols)
        if len(values) != len(checked):
            self._refuse_names(values)
        return checked

    def _refuse_names(self, values: Mapping[str, Any]) -> NoReturn:
        names = [spec.name for spec in self._specs]
        for name in values:
            if name not in names:
                raise InputError(f"unknown input {name!r}; {self._known}")
        missing = next(name for name in names if name not in values)
        raise InputError(f"input {missing!r} is missing; {self._known}")


def _check(spec: Spec, value: Any, name: str, symbols: dict[str, tuple[int, str]]) -> Any:
    if spec.kind == "optional":
        if value is None or spec.element is None:
            return value
        return _check(spec.element, value, name, symbols)
    if spec.kind == "sequence":
        if not isinstance(value, (list, tuple)):
            raise InputError(f"input {name!r}: expected a list, got {type(value).__name__}")
        element = spec.element or Spec("")
        # Elements of a sequence may differ in what a symbol stands for.
        return [_check(element, item, name, {}) for item in value]
    array = _array(value, name)
    if not _fits(spec, array):
        raise InputError(f"input {name!r}: expected {_spell(spec)}, got {_spell_array(array)}")
    for dim, size in zip(spec.shape or (), array.shape, strict=False):
        if not isinstance(dim, str):
            continue
        first, where = symbols.setdefault(dim, (size, name))
        if first != size:
            raise InputError(
                f"input {name!r}: dimension {dim!r} is {size}, but {first} in input {where!r}"
            )
    return array


def _array(value: Any, name: str) -> Any:
    if value is None:
        raise InputError(f"input {name!r}: expected an array, got None")
    try:
        array = np.asarray(value)
    except Exception as error:
        raise InputError(f"input {name!r} is no array: {error}") from error
    if array.dtype.kind in "UST":
        return array.astype(object)
    if array.dtype.kind == "O" and not all(isinstance(e, (str, bytes)) for e in array.flat):
        raise InputError(f"input {name!r}: an object array may hold strings only")
    if array.dtype.kind != "O" and code_of(array.dtype) is None:
        raise InputError(f"input {name!r}: no model takes type {array.dtype}")
    return array


def _fits(spec: Spec, array: Any) -> bool:
    if spec.dtype is not None and _name(array) != spec.dtype:
        return False
    if spec.shape is None:
        return True
    return len(spec.shape) == array.ndim and all(
        not isinstance(dim, int) or dim == size
        for dim, size in zip(spec.shape, array.shape, strict=True)
    )


def _name(array: Any) -> str:
    if array.dtype.kind == "O":
        return STRING
    code = code_of(array.dtype)
    return str(array.dtype) if code is None else TABLE[code].name


def _spell(spec: Spec) -> str:
    if spec.shape is None:
        return f"{spec.dtype or 'any type'} of any shape"
    dims = ",".join("?" if dim is None else str(dim) for dim in spec.shape)
    return f"{spec.dtype or 'any'}[{dims}]"


def _spell_array(array: Any) -> str:
    return f"{_name(array)}[{','.join(str(size) for size in array.shape)}]"


def needs_ml_dtypes(specs: Sequence[Spec]) -> str | None:
    """The first type among these that numpy holds only with the help of ml_dtypes."""
    for spec in specs:
        if spec.element is not None and (found := needs_ml_dtypes([spec.element])):
            return found
        if spec.dtype in CODES and TABLE[CODES[spec.dtype]].numpy.startswith("."):
            return spec.dtype
    return None
