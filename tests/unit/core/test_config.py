"""Config and the constructor: what cannot be is told where it is set."""

import math
import re

import pytest

from chansock import ChannelSocket, Compression, Config, ConfigError, serve


@pytest.mark.parametrize(
    "field",
    [
        {"ws_ping_interval": 0},
        {"ws_ping_interval": math.nan},
        {"poll_timeout": math.inf},
        {"poll_timeout": "20"},
        {"grace_ws": -1},
        {"max_inbox_events": 1.5},
        {"max_inbox_events": True},
        {"max_connections": 0},
        {"allowed_origins": "https://a.example"},
        {"allowed_origins": ("https://a.example/",)},
        {"allowed_origins": ("a.example",)},
        {"allowed_origins": ("https://*",)},
        {"allowed_origins": ("https://*a.example",)},
        {"allowed_origins": ("https://a.*.example",)},
        {"allowed_origins": ("https://*.*.example",)},
        {"allowed_origins": ("https://*.a.example:*",)},
        {"allowed_origins": ("*.a.example",)},
        {"allowed_hosts": ("A.example",)},
        {"allowed_hosts": ("a.example:8000",)},
        {"allowed_hosts": [1]},
        {"max_message_bytes": 1000, "max_inbox_bytes": 999},
        {"max_message_bytes": 1000, "max_total_incoming_bytes": 999},
        {"max_total_incoming_bytes": None},
        {"compression": None},
        {"compression": 1},
        {"compression": {"level": 1}},
    ],
)
def test_a_field_that_cannot_be_is_named(field):
    with pytest.raises(ConfigError, match="|".join(field)):
        Config(**field)


@pytest.mark.parametrize(
    "field",
    [
        {"ws_ping_timeout": None},
        {"flush_delay_ajax": 0},
        {"grace_ws": 0},
        {"allowed_origins": ("*",)},
        {"allowed_origins": ("https://a.example:8443", "capacitor://localhost")},
        {"allowed_origins": ("https://*.a.example", "http://*.localhost:8000")},
        {"allowed_hosts": ("a.example", "127.0.0.1", "::1", "*")},
        {"compression": True},
        {"compression": Compression(window_bits=9, threshold=0, client_takeover=True)},
    ],
)
def test_a_field_that_can_be_is_taken(field):
    Config(**field)


@pytest.mark.parametrize(
    "field",
    [
        {"window_bits": 8},  # zlib can deflate into no window of 8 bits
        {"window_bits": 16},
        {"window_bits": None},
        {"memory_level": 0},
        {"memory_level": 10},
        {"level": 0},
        {"level": -1},
        {"level": True},
        {"level": 6.0},
        {"threshold": -1},
        {"client_takeover": 1},
    ],
)
def test_a_choice_of_compression_that_cannot_be_is_named(field):
    with pytest.raises(ConfigError, match="|".join(field)):
        Compression(**field)


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        (({},), {}, "config"),
        ((), {"user_id": 5}, "user_id"),
        ((), {"authorize": "yes"}, "authorize"),
        ((), {"packer": 5}, "packer"),
    ],
)
def test_the_constructor_names_what_it_cannot_take(args, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        ChannelSocket(*args, **kwargs)


@pytest.mark.parametrize("path", ["chsk", "/chsk?x", "/chsk#x", ""])
def test_a_path_that_no_request_can_have_is_refused(path):
    with pytest.raises(ConfigError, match="path"):
        serve(ChannelSocket(), path=path)


@pytest.mark.parametrize(
    ("settings", "given", "nearest"),
    [
        (Config, {"max_theads": 3}, "'max_threads'"),
        (Config, {"allowed_origin": ("*",)}, "'allowed_origins'"),
        (Compression, {"window_bit": 12}, "'window_bits'"),
        (Config, {"colour": "red"}, "a setting of Config"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_with_the_nearest_name(settings, given, nearest):
    (name,) = given
    with pytest.raises(ConfigError, match=f"expected {nearest}, got '{name}'"):
        settings(**given)


def test_what_cannot_be_called_is_refused_where_it_is_registered():
    chsk = ChannelSocket()
    for register, form in (
        (lambda: chsk.on("chat/say", 5), "def handler(msg)"),
        (lambda: chsk.on_error(5), "def handler(msg, error)"),
        (lambda: chsk.middleware(5), "middleware(msg, call_next)"),
    ):
        with pytest.raises(TypeError, match=re.escape(form)):
            register()
    with pytest.raises(ConfigError, match="user_id: expected a function"):
        ChannelSocket(user_id=5)
