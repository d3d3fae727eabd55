"""Advice on the use of the machine: memory, arithmetic, threads, compiling."""

from luthier.advise.facts import Facts
from luthier.advise.training import predicted_steps
from luthier.core.artifacts import AnswerKind
from luthier.recipe import Advice, Recipe
from luthier.train.spec import is_seq2seq, state_bytes

MOST_TOKENS_CPU = 1536
MOST_TOKENS_GPU = 16_384
MEMORY_SHARE = 0.5
"""Of the available memory; the rest is for the system, the data, and what autograd does not show."""
WEIGHT_BYTES = 4
TEXTS: dict[AnswerKind, int] = {"match": 2, "likeness": 2, "triplet": 3}
"""Texts of a row whose vectors are trained."""
LAYERS_THERE = 2
"""Layers whose activations are on the GPU at once where they are moved away: one going, one coming."""

COMPILE_REPAYS_S = 300
FLOP_PER_TOKEN_AND_WEIGHT = 4
"""Forward, and backward through frozen weights."""
CPU_FLOP_PER_S_AND_CORE = 100e9
"""Half of what the step without sharing was measured to do in bf16, about all that it does in fp32."""
GPU_FLOP_PER_S = 10e12


def gradient_checkpointing(recipe: Recipe, facts: Facts) -> Advice:
    """Only where the longest row does not fit into memory without it."""
    if not recipe.train.adapter.traits.recomputes:
        because = "this adapter is a cache of keys and values, which recomputing leaves out"
        return Advice(path="train.gradient_checkpointing", value=False, because=because)
    room, longest = _room_tokens(recipe, facts), _longest_tokens(recipe, facts)
    value = room < longest
    words = "does not fit" if value else "fits"
    because = f"the longest row ({longest:,} tokens) {words} into memory, which holds about {room:,}"
    return Advice(path="train.gradient_checkpointing", value=value, because=because)


def micro_batch_tokens(recipe: Recipe, facts: Facts) -> Advice:
    """What memory holds, up to what still makes the step faster."""
    room, longest = _room_tokens(recipe, facts), _longest_tokens(recipe, facts)
    most = MOST_TOKENS_GPU if facts.machine.accelerator else MOST_TOKENS_CPU
    value = max(min(room, most), longest)
    free = f"{facts.machine.available_bytes / 1e9:.1f} GB of free memory hold about {room:,} tokens"
    if value > room:
        because = f"one row of {longest:,} tokens is the least there is; {free}"
    else:
        because = f"{free}; more than {most:,} are no faster" if value == most else free
    return Advice(path="train.micro_batch_tokens", value=value, because=because)


def precision(recipe: Recipe, facts: Facts) -> Advice:
    """What this hardware computes fast."""
    machine = facts.machine
    return Advice(path="train.precision", value=machine.fast_dtype, because=machine.fast_dtype_because)


def fast_step(recipe: Recipe, facts: Facts) -> Advice:
    """Always: it gives the same loss, and the plain step takes over where a model forbids it."""
    if recipe.train.method.heads:
        return Advice(path="train.fast_step", value=False, because="a head reads each text whole")
    if is_seq2seq(recipe.train.method):
        because = "an encoder-decoder reads source and target apart"
        return Advice(path="train.fast_step", value=False, because=because)
    because = "same loss and gradients; where the model forbids it the plain step runs"
    return Advice(path="train.fast_step", value=True, because=because)


def compiled(recipe: Recipe, facts: Facts) -> Advice:
    """Where the run is long enough to repay the compiling."""
    if recipe.train.method.heads or is_seq2seq(recipe.train.method):
        return Advice(path="train.compile", value=False, because="only the fast step has kernels to compile")
    seconds = _predicted_seconds(recipe, facts)
    if not facts.machine.has_compiler:
        return Advice(path="train.compile", value=False, because="no C++ compiler is found")
    minutes = f"about {max(1, round(seconds / 60)):,} min of training"
    value = seconds > COMPILE_REPAYS_S
    because = f"{minutes} {'repay' if value else 'do not repay'} compiling"
    return Advice(path="train.compile", value=value, because=because)


def threads(recipe: Recipe, facts: Facts) -> Advice:
    """One per core."""
    return Advice(path="train.threads", value=facts.machine.cores, because="one per physical core")


def _longest_tokens(recipe: Recipe, facts: Facts) -> int:
    """Return how many tokens of one row are computed together: both answers of a pair, all texts that are compared."""
    texts = 2 if recipe.train.method.takes_pairs else TEXTS.get(facts.data.answer_kind, 1)
    return facts.data.longest_tokens * texts


def _room_tokens(recipe: Recipe, facts: Facts) -> int:
    """Return how many tokens' activations fit beside the weights."""
    model = facts.model
    state = state_bytes(recipe.train) * _own_share(recipe, model.layers)
    budget = facts.machine.available_bytes * MEMORY_SHARE - model.parameters * (WEIGHT_BYTES + state)
    per_token = model.activation_bytes_per_token
    if recipe.train.activation_offload:
        # What one layer keeps is on the GPU before it goes.
        per_token = per_token / max(1, model.layers) * LAYERS_THERE
    if recipe.train.gradient_checkpointing is True:
        # One layer's activations at a time, and the input of each layer.
        per_token = per_token / max(1, model.layers) + 4 * model.hidden * model.layers
    return max(0, int(budget / max(1.0, per_token)) // 64 * 64)


def _own_share(recipe: Recipe, layers: int) -> float:
    """Return which share of the model's own weights trains, about."""
    adapter = recipe.train.adapter
    if not adapter.traits.whole:
        return 0.0
    return min(1.0, getattr(adapter, "layers", layers) / max(1, layers))


def _predicted_seconds(recipe: Recipe, facts: Facts) -> float:
    batch = recipe.train.batch_size if isinstance(recipe.train.batch_size, int) else facts.data.rows
    tokens = predicted_steps(recipe, facts) * batch * facts.data.mean_tokens
    speed = GPU_FLOP_PER_S if facts.machine.accelerator else CPU_FLOP_PER_S_AND_CORE * facts.machine.cores
    return tokens * FLOP_PER_TOKEN_AND_WEIGHT * facts.model.parameters / speed
