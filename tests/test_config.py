"""Config and the constructor: what cannot be is told where it is set."""

import math

import pytest

from chansock import ChannelSocket, Config, ConfigError, serve


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
        {"allowed_hosts": ("A.example",)},
        {"allowed_hosts": ("a.example:8000",)},
        {"allowed_hosts": [1]},
        {"max_message_bytes": 1000, "max_inbox_bytes": 999},
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
        {"allowed_hosts": ("a.example", "127.0.0.1", "::1", "*")},
    ],
)
def test_a_field_that_can_be_is_taken(field):
    Config(**field)


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
