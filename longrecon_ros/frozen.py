"""Fields of records that are arrays: checked when a record is made, then read-only."""

import numpy as np


def freeze(record, name: str, dtype, *shape, finite: bool = False) -> np.ndarray:
    """Convert one field to a read-only array and check its shape.

    ``shape`` holds sizes; ``None`` matches any size. With ``finite`` NaN and infinity are refused,
    too. Raises ``ValueError`` naming the field.
    """
    where = f'{type(record).__name__}.{name}'
    try:
        value = np.asarray(getattr(record, name), dtype=dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{where}: not an array of {np.dtype(dtype).name} ({error})') from None
    fits = value.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape))
    if not fits:
        want = tuple('any' if s is None else s for s in shape)
        raise ValueError(f'{where}: expected shape {want}, got {value.shape}')
    if finite and not np.isfinite(value).all():
        raise ValueError(f'{where}: expected finite numbers, got\n{value}')
    view = value.view()
    view.flags.writeable = False
    object.__setattr__(record, name, view)
    return view
