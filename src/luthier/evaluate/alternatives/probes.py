"""General probes: what a tuning may make a model forget, in a small set of our own."""

from dataclasses import dataclass

TEXTS = (
    "The water cycle moves water between the sea, the air and the land. The sun warms the sea, water rises as vapour, "
    "cools into clouds, and falls again as rain or snow.",
    "To make a simple soup, chop an onion and two carrots, fry them in a little oil, add water and salt, and let "
    "everything cook for twenty minutes.",
    "A library lends books to its readers for some weeks. Whoever brings a book back late pays a small fee.",
    "The train to the coast leaves at nine in the morning and arrives shortly before noon, if there is no delay.",
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n"
    "    return total / len(values)\n",
    "Dear Ms Novak, thank you for your letter of the third of May. We are glad to confirm your appointment on Monday.",
    "A triangle has three sides and three angles, and its angles add up to one hundred and eighty degrees.",
    "Bees visit flowers to collect nectar. While they do so, they carry pollen from one flower to the next.",
    "In winter the days are short and the nights are long, since the pole is turned away from the sun.",
    "The meeting was moved to Thursday because two of the speakers were ill.",
    "When you cross a street, look left, then right, then left again, and wait until the cars have stopped.",
    "Iron rusts when it is wet for a long time. Paint keeps the water away from it.",
)
"""Plain texts; their perplexity is compared before and after."""


@dataclass(frozen=True)
class Probe:
    """A general question with answers to choose from, the first of which is right."""

    question: str
    answers: tuple[str, ...]


QUESTIONS = (
    Probe("What is the capital of France?", ("Paris", "Rome", "Berlin", "Madrid")),
    Probe("Which is larger, 7 or 12?", ("12", "7")),
    Probe("What colour is the sky on a clear day?", ("Blue", "Green", "Red", "Black")),
    Probe("What do bees make?", ("Honey", "Milk", "Bread", "Oil")),
    Probe("How many days has a week?", ("Seven", "Five", "Nine", "Ten")),
    Probe("What is the opposite of hot?", ("Cold", "Warm", "Tall", "Loud")),
    Probe("What is 2 + 2?", ("4", "3", "5", "22")),
    Probe("Which animal says meow?", ("A cat", "A dog", "A cow", "A duck")),
    Probe("What do we call frozen water?", ("Ice", "Steam", "Sand", "Glass")),
    Probe("Which language is spoken in Spain?", ("Spanish", "Japanese", "Polish", "Arabic")),
    Probe("Which month comes after March?", ("April", "February", "June", "December")),
    Probe("What do you use to write on paper?", ("A pen", "A spoon", "A shoe", "A pillow")),
    Probe("What is the plural of 'child'?", ("children", "childs", "childes", "child")),
    Probe("Which planet do we live on?", ("Earth", "Mars", "Venus", "Jupiter")),
    Probe("What is the past tense of 'go'?", ("went", "goed", "gone", "going")),
    Probe("How many legs has a spider?", ("Eight", "Six", "Four", "Ten")),
    Probe("Who wrote Hamlet?", ("William Shakespeare", "Albert Einstein", "Isaac Newton", "Marie Curie")),
    Probe("What is H2O?", ("Water", "Salt", "Gold", "Air")),
    Probe("What does a thermometer measure?", ("Temperature", "Weight", "Time", "Distance")),
    Probe("Which of these is a fruit?", ("Apple", "Chair", "Stone", "Hammer")),
)
"""Easy questions; the likeliest answer is the model's."""
