"""The grammar of the factors: what their levels are called, and what the names mean (docs/cube.md)."""

from fractions import Fraction


def parse_order(order: str) -> tuple[str, float]:
    """Split an order level into its kind and its number.

    Args:
        order: `left_to_right`, `any`, `fixed:N` with 1 <= N < 2**15, or `right_to_left:share` with
            share in [0, 1].

    Returns:
        The kind and N, the share, or 0.

    Raises:
        ValueError: for any other text.
    """
    kind, _, number = order.partition(":")
    if kind in ("left_to_right", "any") and not number and ":" not in order:
        return kind, 0.0
    if kind == "fixed" and number.isdecimal() and 1 <= int(number) < 2**15:
        return kind, float(number)
    if kind == "right_to_left":
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if 0 <= share <= 1:
            return kind, share
    raise ValueError(
        "`order` must be left_to_right, any, fixed:N (1 <= N < 32768) or right_to_left:share "
        f"(0 <= share <= 1), but got order={order!r}."
    )


def parse_noise_window(noise_window: str) -> tuple[str, float]:
    """Split a noise window into its kind and its number.

    Args:
        noise_window: which counts k of hidden tokens are drawn: `all` of 1 .. L, the `low`, `mid` or `high`
            third of them, or `fixed:SHARE`, k = max(1, round(SHARE L)), with SHARE in (0, 1].

    Returns:
        The kind, and the share or 0.

    Raises:
        ValueError: for any other text.
    """
    kind, colon, number = noise_window.partition(":")
    if kind in ("all", "low", "mid", "high") and not colon:
        return kind, 0.0
    share = _share(number)
    if kind == "fixed" and share:
        return kind, share
    raise ValueError(
        "`noise_window` must be all, low, mid, high or fixed:SHARE (0 < SHARE <= 1), "
        f"but got noise_window={noise_window!r}."
    )


def level_range(noise_window: str) -> tuple[float, float]:
    """The noise levels of a noise window in (0, 1), the lowest and the highest, where each token is hidden on
    its own; its counts are those of `lab.objectives.draws.count_range` where k is drawn.

    Raises:
        ValueError: if there is no such window.
    """
    kind, share = parse_noise_window(noise_window)
    if kind in ("all", "fixed"):
        return share, share or 1.0
    third = ("low", "mid", "high").index(kind)
    return third / 3, (third + 1) / 3


def parse_input_noise(input_noise: str) -> tuple[str, float, bool]:
    """Split an input noise into its kind, its ratio, and whether the ratio is drawn.

    Args:
        input_noise: `none`; or what altered inputs become, `mask` (the mask id) or `replace` (random tokens),
            and how many are: `mask:R`, k = max(1, round(R L)) of L, or `mask:0-R`, k uniform on
            1 .. max(1, round(R L)); R in (0, 1].

    Returns:
        The kind, R (0 for none), and whether k is drawn.

    Raises:
        ValueError: for any other text.
    """
    kind, _, number = input_noise.partition(":")
    if input_noise == "none":
        return "none", 0.0, False
    drawn = number.startswith("0-")
    ratio = _share(number.removeprefix("0-"))
    if kind in ("mask", "replace") and ratio:
        return kind, ratio, drawn
    raise ValueError(
        "`input_noise` must be none, or mask or replace with a ratio such as mask:0.3 or mask:0-1 "
        f"(0 < ratio <= 1), but got input_noise={input_noise!r}."
    )


def parse_ar_share(ar_share: float) -> Fraction:
    """The share of rows that are trained left to right, as so many of so many.

    Args:
        ar_share: in [0, 1], within 1e-9 of a fraction whose denominator is at most 1000.

    Raises:
        ValueError: if there is no such fraction.
    """
    fraction = Fraction(ar_share).limit_denominator(1000)
    if not 0 <= fraction <= 1 or abs(fraction - Fraction(ar_share)) > 1e-9:
        raise ValueError(
            "`ar_share` must be a fraction in [0, 1] with a denominator of at most 1000, to nine digits, "
            f"but got ar_share={ar_share}."
        )
    return fraction


def _share(text: str) -> float:
    """A number in (0, 1], or 0 for any other text."""
    try:
        share = float(text)
    except ValueError:
        return 0.0
    return share if 0 < share <= 1 else 0.0
