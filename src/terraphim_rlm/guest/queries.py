"""Combinators over batched sub-calls: programs that a model can call instead of writing them."""


def bind(calls):
    """map_query, filter_query, reduce_query, classify, pairs, tournament over one cell's calls."""

    def map_query(instruction, items):
        """One answer per item, in order; the instruction is put before each. Equal items are asked about once."""
        return calls.llm_query_batched([f"{instruction}\n\n{item}" for item in items], memo=True)

    def filter_query(question, items):
        """The items for which a model says yes."""
        items = list(items)
        answers = map_query(f"{question}\nAnswer only yes or no.", items)
        return [item for item, answer in zip(items, answers) if _says(answer, "yes")]

    def classify(items, labels, instruction="Which label fits the text?"):
        """One of `labels` per item; None where the model named none of them."""
        labels = list(labels)
        answers = map_query(f"{instruction}\nAnswer with one of: {', '.join(labels)}.", items)
        return [_label(answer, labels) for answer in answers]

    def reduce_query(instruction, items, size=10):
        """Merges texts, `size` at a time, until one is left."""
        items = list(items)
        while len(items) > 1:
            groups = [items[i : i + size] for i in range(0, len(items), size)]
            items = map_query(instruction, ["\n\n".join(map(str, group)) for group in groups])
        return items[0] if items else ""

    def pairs(question, items):
        """The pairs (a, b), a before b in `items`, for which a model says yes."""
        items = list(items)
        all_pairs = [(a, b) for i, a in enumerate(items) for b in items[i + 1 :]]
        answers = map_query(f"{question}\nAnswer only yes or no.", [f"A: {a}\nB: {b}" for a, b in all_pairs])
        return [pair for pair, answer in zip(all_pairs, answers) if _says(answer, "yes")]

    def tournament(question, items):
        """The item that wins round after round of comparisons; None when there are none."""
        items = list(items)
        while len(items) > 1:
            rounds = [items[i : i + 2] for i in range(0, len(items), 2)]
            texts = [f"A: {pair[0]}\nB: {pair[1]}" for pair in rounds if len(pair) == 2]
            answers = iter(map_query(f"{question}\nAnswer only A or B.", texts))
            items = [pair[0] if len(pair) == 1 or _says(next(answers), "a") else pair[1] for pair in rounds]
        return items[0] if items else None

    return {
        "map_query": map_query,
        "filter_query": filter_query,
        "reduce_query": reduce_query,
        "classify": classify,
        "pairs": pairs,
        "tournament": tournament,
    }


def _says(answer, word):
    letters = "".join(c if c.isalnum() else " " for c in answer.lower()).split()
    return bool(letters) and letters[0] == word


def _label(answer, labels):
    lowered = answer.lower()
    named = [label for label in labels if label.lower() in lowered]
    return max(named, key=len) if named else None
