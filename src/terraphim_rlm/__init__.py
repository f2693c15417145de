"""Recursive Language Models: answers over inputs of any size, by code in an isolated sandbox.

Who may import whom (checked by import-linter): `guest` imports only the standard library. Then each
line may import the lines before it:

    core
    llm  sandbox  guard  store      (side by side, none imports another)
    engine
    service
    faces

`testing` may import all; only tests import it, and the command line for `bench`, `attack`, `conform`.
Importing any module has no side effect; heavy libraries are imported inside the function that needs them.
"""
