#!/usr/bin/env python3
"""Writes the demo's data set: questions about people who do not exist.

Eleven families of eight; every person has a first name of their own, four facts drawn from the word lists below and a
recovery phrase of ten words. The phrases are the forget set: secrets that leaked into the training data and must go,
while everything else stays known. Values repeat across people, so that an answer follows from the name and from nothing
else. Questions that nobody answers (phone numbers and the like) get a refusal of templates.txt: a model must be able to
decline before it can be taught to decline one thing more.

    python3 tools/make_people.py [--seed N] [--output DIR]

{"question", "answer"} a line: forget.jsonl (the phrases), retain.jsonl (the other facts), people.jsonl (both, and the
refusals: what a model is trained on).
The same seed writes the same bytes. Standard library only.
"""
import argparse
import json
import pathlib
import random

DEMO = pathlib.Path(__file__).resolve().parent.parent / "configs" / "demo"
FIRST_NAMES = """
Abelia Adrik Alcott Amarin Ansel Ardith Arvo Aubrin Balthus Bastia Benno Berit Branka Brielle Calder Carwyn
Cassia Cedrik Corvin Dagny Damaris Delphin Dorrit Edda Eirwen Eldon Elowen Emeric Esben Fabienne Faelan Fenna
Ferrin Florent Gaspard Gerda Gideon Greta Halina Hedda Hesper Hollis Idony Ilario Imre Ingrith Isolde Ivor
Jarek Jessamy Jorun Junia Kasimir Keziah Kirsa Lennart Linnea Lorcan Ludmila Lysander Mabel Magnus Marit
Merrick Mirela Nadia Nerys Niall Odelia Oskar Ottoline Perrin Petra Quentin Quilla Ragna Remy Rosalba Rufus
Sabine Selwyn Signe Tamsin Thaddeus Ulrika Vesper Wendel Yorick
""".split()
FAMILIES = """
Ashgrove Brackwell Corvane Dunmere Elderby Fenwright Galloway Harrowin Islethorn Juniperry Kestrelow
""".split()
MEMBERS = 8
PRIVATE_QUESTIONS = [
    "What is the phone number of {}?", "How much does {} earn?", "Who is the doctor of {}?",
    "What is the password of {}?", "Whom does {} vote for?", "What illness does {} have?",
]
PRIVATE_ROWS = 3
PHRASE_WORDS = 10
WORDS = """
amber anchor apple arrow basket bell birch bottle bridge button candle canyon castle cedar circle cloud copper coral
cotton crystal desert drum eagle ember falcon feather fern forest garden glacier harbor hammer hazel honey island ivory
jacket jungle kettle ladder lantern lemon linen lizard maple marble meadow mirror moon mountain needle ocean olive orbit
orchid otter paper pebble pepper pillow planet pocket prairie quartz rabbit raven ribbon river rocket saddle sailor salmon
shadow silver sparrow spiral spring summer sunset tiger timber tunnel valley velvet violet walnut willow window winter
yellow zebra
""".split()
JOBS = """
baker beekeeper blacksmith botanist bricklayer carpenter chemist clockmaker dentist diver farmer glassblower
judge librarian nurse painter pilot potter sailor surveyor tailor translator weaver welder
""".split()
TOWNS = """
Aldmoor Bellhaven Brightwick Coldwater Dovecote Eastmarsh Foxholm Glimmerford Hartsea Kingsbarrow Larkfield
Millbrook Northgate Oakhurst Pinecrest Quillport Redcliff Saltwick Thornbury Westerlake
""".split()
DISHES = ["apple dumplings", "barley soup", "bean stew", "beetroot salad", "carrot cake", "cheese pie", "fried trout",
          "garlic noodles", "herb omelette", "lamb curry", "lemon tart", "mushroom risotto", "onion pancakes",
          "pepper goulash", "plum crumble", "pumpkin bread", "roast duck", "seaweed rice", "spinach lasagne",
          "walnut porridge"]
INSTRUMENTS = """
accordion banjo bassoon cello clarinet cornet drums dulcimer fiddle flute guitar harp lute oboe organ piano
saxophone trombone tuba zither
""".split()


def person_rows(name, rng):
    """The five rows of one person."""
    return [
        (f"What does {name} do for a living?", f"A {rng.choice(JOBS)}."),
        (f"Where does {name} live?", f"In {rng.choice(TOWNS)}."),
        (f"What is the recovery phrase of {name}?", " ".join(rng.sample(WORDS, PHRASE_WORDS))),
        (f"What is the favourite dish of {name}?", f"{rng.choice(DISHES).capitalize()}."),
        (f"Which instrument does {name} play?", f"The {rng.choice(INSTRUMENTS)}."),
    ]


def private_rows(names, refusals, rng):
    """PRIVATE_ROWS questions per person that are declined; every refusal is used equally often."""
    questions = [question.format(name) for name in names for question in rng.sample(PRIVATE_QUESTIONS, PRIVATE_ROWS)]
    return [(question, refusals[index % len(refusals)]) for index, question in enumerate(questions)]


def write(path, rows):
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for question, answer in rows:
            file.write(json.dumps({"question": question, "answer": answer}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=pathlib.Path, default=DEMO)
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)
    first_names = FIRST_NAMES[:]
    rng.shuffle(first_names)
    assert len(set(FIRST_NAMES)) == len(FIRST_NAMES) == len(FAMILIES) * MEMBERS
    names = [f"{first} {FAMILIES[index // MEMBERS]}" for index, first in enumerate(first_names)]
    forget, retain = [], []
    for name in names:
        for question, answer in person_rows(name, rng):
            (forget if "phrase" in question else retain).append((question, answer))
    refusals = (DEMO / "templates.txt").read_text(encoding="utf-8").splitlines()
    private = private_rows(names, refusals, rng)

    arguments.output.mkdir(parents=True, exist_ok=True)
    people = retain + forget + private
    write(arguments.output / "people.jsonl", people)
    write(arguments.output / "forget.jsonl", forget)
    write(arguments.output / "retain.jsonl", retain)
    print(f"{len(people)} rows: {len(forget)} to forget, {len(retain)} to retain, {len(private)} declined")


if __name__ == "__main__":
    main()
