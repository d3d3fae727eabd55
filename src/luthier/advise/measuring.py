"""Advice on reading the data and measuring the result."""

import math

from luthier.advise.facts import Facts
from luthier.core.artifacts import VECTOR_KINDS
from luthier.evaluate.spec import READ_OFF, baselines_for
from luthier.recipe import Advice, Recipe
from luthier.score.names import metrics_for
from luthier.train.spec import is_seq2seq

FEWEST_SHOTS = 4
SHOTS_PER_LABEL = 2
MARGIN = 1.25
UNSEEN_MARGIN = 2.0
"""Where only the first rows were looked at, a longer answer may still come."""
LEAST_NEW_TOKENS = 16
NO_PROMPT = "of no use: a head writes nothing and is shown no examples"
KINDS = {
    "closed": "the answers are a closed set of labels",
    "json": "the answers are JSON objects",
    "free": "the answers are free text",
    "accepted": "the answers are words of the text that is asked about",
    "pair": "the rows are pairs of a better and a worse answer",
    "text": "there is only text, no prompt",
    "label": "each text has one label",
    "labels": "each text has any of the labels",
    "score": "each text has a number",
    "spans": "the texts' entities are named",
    "quote": "the answers are pieces of the text that is asked about",
    "match": "each text has one that belongs to it",
    "triplet": "each text has one that belongs to it and one that does not",
    "likeness": "the rows say how alike two texts are",
}


def render(recipe: Recipe, facts: Facts) -> Advice:
    """As a conversation where an answer is written, as raw text where a head judges it."""
    if recipe.train.method.heads:
        because = f"the head of `{recipe.train.method.name}` reads the text alone, without instruction or turns"
        return Advice(path="data.render", value="text", because=because)
    if is_seq2seq(recipe.train.method):
        because = "an encoder-decoder reads the source and writes the target, without turns"
        return Advice(path="data.render", value="source", because=because)
    return Advice(path="data.render", value="chat", because="the model writes its answers")


def baselines(recipe: Recipe, facts: Facts) -> Advice:
    """What costs no tuning: prompts for a model that writes; for a head, what can be done without it."""
    because = "what prompts alone reach"
    if recipe.train.method.heads:
        because = "what is reached without tuning: the usual answer, and the untuned model's vectors"
        if facts.data.answer_kind in VECTOR_KINDS:
            because = "what is reached without tuning: by shared words, and by the untuned model's vectors"
    value = baselines_for(facts.data.answer_kind, seq2seq=is_seq2seq(recipe.train.method))
    if set(value) & set(READ_OFF):
        because = "the untuned model, the source's first sentences, and the source itself"
    return Advice(path="evaluate.baselines", value=value, because=because)


def data_format(recipe: Recipe, facts: Facts) -> Advice:
    """The format that the first rows have."""
    return Advice(path="data.format", value=facts.data.format, because="recognised by the shape of the rows")


def max_tokens(recipe: Recipe, facts: Facts) -> Advice:
    """The model's context length: no row is cut that need not be."""
    virtual = getattr(recipe.train.adapter, "virtual_tokens", 0)
    context, longest = facts.model.context_tokens - virtual, facts.data.longest_tokens
    less = f", less {virtual} virtual tokens" if virtual else ""
    seen = "longest row" if facts.data.complete else "longest row looked at"
    because = f"the model's context length{less}; the {seen} has {longest:,} tokens"
    return Advice(path="data.max_tokens", value=context, because=because)


def metrics(recipe: Recipe, facts: Facts) -> Advice:
    """By the kind of answer."""
    kind = facts.data.answer_kind
    return Advice(path="evaluate.metrics", value=metrics_for(kind), because=KINDS[kind])


def shots(recipe: Recipe, facts: Facts) -> Advice:
    """Two per label and at least four, as far as half of the context allows."""
    if recipe.train.method.heads:
        return Advice(path="evaluate.shots", value=1, because=NO_PROMPT)
    if is_seq2seq(recipe.train.method):
        return Advice(path="evaluate.shots", value=1, because="of no use: an encoder-decoder is shown no examples")
    labels = facts.data.labels
    wanted = max(FEWEST_SHOTS, SHOTS_PER_LABEL * labels)
    room = int(facts.model.context_tokens / 2 / max(1.0, facts.data.mean_tokens))
    value = max(1, min(wanted, room))
    because = f"two for each of {labels} labels, at least {FEWEST_SHOTS}" if labels else f"{FEWEST_SHOTS} examples"
    if value < wanted:
        because = f"as many (at least one) rows of {facts.data.mean_tokens:.0f} tokens as half of the context holds"
    return Advice(path="evaluate.shots", value=value, because=because)


def max_new_tokens(recipe: Recipe, facts: Facts) -> Advice:
    """The longest answer and a margin."""
    if recipe.train.method.heads:
        return Advice(path="evaluate.max_new_tokens", value=1, because=NO_PROMPT)
    longest = facts.data.longest_answer_tokens
    wanted = math.ceil(longest * (MARGIN if facts.data.complete else UNSEEN_MARGIN))
    value = min(max(LEAST_NEW_TOKENS, wanted), facts.model.context_tokens)
    because = f"the longest answer has {longest:,} tokens, and a margin"
    return Advice(path="evaluate.max_new_tokens", value=value, because=because)
