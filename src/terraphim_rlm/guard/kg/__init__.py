"""The knowledge graph: which words a domain has, where they are in a text, and how they hang together.

`thesaurus` (terms and their concepts), `reading` (from JSON and Markdown), `matcher` (one compiled automaton), `graph`
(what occurs together in documents), `build` (a graph from a folder of documents), `words` and `vocabulary` (whether a
piece of code speaks the domain's language), `library` (a graph on disk, read again when it changes).
"""
