"""The engine: everything that runs once for each read, frame, token, event, or recipient.

Each wing (folder) is about one topic, and its header says what lives there and what may not:

    io  <--  http, ws, edn  <--  events
             edn  <--  msgpack  <--  events

A wing imports only wings to its left, and nothing from above the engine: callers pass in what the
engine needs. tests/packaging/test_layers.py checks this.
"""
