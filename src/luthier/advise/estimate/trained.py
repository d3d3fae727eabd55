"""How many weights an adapter trains, by arithmetic on the sizes of a model's layers."""

from collections.abc import Sequence

from luthier.model.adapters.union import AdapterSpec

Shape = tuple[int, ...]


def trained_weights(
    adapter: AdapterSpec, linear: Sequence[Shape], *, hidden: int, keys: int, layers: int, parameters: int
) -> int:
    """Return about how many weights train, given the shapes of the linear layers; of a name unknown here, all.

    `keys` are the channels of a layer's keys: fewer than `hidden` where heads share them.
    """
    both, longest = sum(map(sum, linear)), sum(map(max, linear))
    tokens, rank = getattr(adapter, "virtual_tokens", 0), getattr(adapter, "r", 0)
    block = getattr(adapter, "block_size", 0)
    counts = {
        "lora": rank * both,
        "qlora": rank * both,
        "vera": rank * len(linear) + longest,
        "ia3": longest,
        "oft": longest * block // 2,
        "boft": longest * block * getattr(adapter, "factors", 1),
        "ln_tuning": 2 * layers * hidden + hidden,
        "bottleneck": 4 * layers * hidden * getattr(adapter, "size", 0),
        "prompt_tuning": tokens * hidden,
        "p_tuning": tokens * hidden + 3 * hidden * getattr(adapter, "hidden", 0),
        "prefix_tuning": _prefix(tokens, getattr(adapter, "projection", None), keys, layers),
        "llama_adapter": getattr(adapter, "prompt_tokens", 0) * hidden * getattr(adapter, "layers", 0),
        "freeze": parameters * min(getattr(adapter, "layers", 0), layers) // layers,
    }
    return min(counts.get(adapter.name, parameters), parameters)


def _prefix(tokens: int, projection: int | None, keys: int, layers: int) -> int:
    """Count keys and values of all layers, or the network of two layers, with biases, that makes them."""
    whole = 2 * layers * keys
    if projection is None:
        return tokens * whole
    return tokens * keys + keys * projection + projection + projection * whole + whole
