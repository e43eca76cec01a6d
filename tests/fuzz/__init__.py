"""Fuzz targets, one to a codec: fuzz_edn, fuzz_frames, fuzz_http, ....

A target has `check(data)`, which takes any bytes and raises if the code under test did what
it may not; `seeds()`, inputs to start from; and WORDS, bytes worth putting in. The first
byte of an input chooses what is done with the rest. `run` feeds a target from a fuzzer;
tests/fuzz/test_fuzz_targets.py without one.
"""
